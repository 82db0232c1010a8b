import base64
import io
import re
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from stochrestore import config
from stochrestore.book import claims, claims_page, equations, notebook, pages, provenance, runs
from stochrestore.book.runs import Run
from stochrestore.errors import InputError
from stochrestore.experiments import registry
from stochrestore.metrics.interval import Interval
from stochrestore.store import read_record

CLAIMS = "src/stochrestore/book/claims.yaml"


RUN = Run(
    notebook="toy_tradeoff",
    preset="laptop",
    commit="0123456789abcdef",
    dirty=False,
    device="CPU, 2 cores",
    versions={},
    seconds=150.0,
    cpu_seconds=200.0,
    memory=512 * 2**20,
    weights=4 * 2**20,
    written=2**20,
)


# --- Equations -------------------------------------------------------------------------------


def test_every_equation_of_the_paper_leads_somewhere():
    assert list(equations.paper()) == list(range(1, 26))
    computed = set().union(*equations.functions().values())
    assert set(range(1, 10)) | set(range(11, 15)) <= computed  # the others are steps of proofs
    for number in equations.paper():
        assert number in computed or equations.claims_about(number)


def test_equations_of_other_papers_are_not_taken_for_this_papers():
    page = equations.markdown({})
    assert not any(name in page for name in ("ddim", "ddrm"))


def test_no_docstring_names_an_equation_that_the_paper_lacks():
    assert set().union(*equations.functions().values()) <= equations.paper().keys()


def test_no_two_entries_of_an_equation_look_alike():
    for line in equations.markdown({}).splitlines():
        shown = re.findall(r"`([^ `]+) <", line)
        assert len(shown) == len(set(shown))
    assert "`Zigzag.sensitivity <" in equations.markdown({})


def test_every_function_of_the_map_exists_and_names_its_equations():
    for name, numbers in equations.functions().items():
        parts = name.split(".")
        for split in range(len(parts), 0, -1):
            try:
                found = import_module(".".join(parts[:split]))
                break
            except ModuleNotFoundError:
                continue
        for part in parts[split:]:
            found = getattr(found, part)
        assert numbers <= equations.mentioned(found.__doc__)


def test_the_map_leads_to_the_code_that_trains():
    about_training = [n for n, numbers in equations.functions().items() if 8 in numbers]
    assert any(name.startswith("stochrestore.training.") for name in about_training)
    assert any(".experiments.toy_gans." in name for name in equations.functions())


def test_the_page_of_equations_has_a_section_and_a_label_each():
    page = equations.markdown({"toy_tradeoff": "A toy"})
    for number, equation in equations.paper().items():
        assert f"(eq-{number})=\n## Eq. {number}: " in page
        assert equation.tex in page
    assert "{py:obj}`robustness_loss <stochrestore.losses.robustness_loss>`" in page
    assert "[A toy](toy_tradeoff.ipynb)" in page


@given(st.integers(1, 20), st.integers(0, 4), st.sampled_from(["–", "-"]))
def test_ranges_and_lists_of_equations_are_read(first, more, dash):
    last = first + more
    assert equations.mentioned(f"see (Eq. {first}{dash}{last}).") == set(range(first, last + 1))
    assert equations.mentioned(f"Eq. {first} and {last}") == {first, last}
    assert equations.mentioned(f"Eq. {first}, in {last} steps, Sec. 3") == {first}


def executed(path, *cells):
    """An executed notebook, of what matters in each cell."""
    empty = {"cell_type": "code", "metadata": {}, "source": ""}
    found = {"cells": [empty | cell for cell in cells], "metadata": {}, "nbformat": 4}
    notebook.write(path, found)


# --- Results ---------------------------------------------------------------------------------


def rows_of(claim, verdict="reproduced"):
    measured = Interval(0.25, 0.2, 0.3)
    found = claims.Evidence(claim.notebook, "laptop", {claim.id: measured}, {claim.id: "images"})
    row = claims.record(claim, found)
    shown = {"value": 0.25, "interval": [0.2, 0.3], "over": "images", "verdict": verdict}
    return {**row, **shown}


def test_every_claim_is_on_the_page_of_results_once(tmp_path):
    rows = [rows_of(claim) for claim in claims.registry().values()]
    page = pages.results(rows, tmp_path)
    assert page.count("<tr>") - page.count("<thead>") == len(rows)
    assert page.count("0.25 [0.2, 0.3]") == len(rows)
    text = (
        (provenance.checkout() / "src/stochrestore/book/claims.yaml")
        .read_text("utf-8")
        .splitlines()
    )
    for claim in claims.registry().values():
        line = pages.source_line(claim.id)
        assert text[line - 1] == f"- id: {claim.id}"
        assert f"<code>claims.yaml:{line}</code>" in page


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("Sec. 4.2, Fig. 3", "Figure 3"),
        ("App. E.1, Table 3", "Table 3"),
        ("App. B.1", "Figure 5"),
        ("Sec. 6.1, Table 1", "Figure 1 and Table 1"),
        ("App. G, Fig. 8", "Figure 8"),
        ("Sec. 4, App. C", "Figure 6"),
        ("Thm 3.1, App. A", "Theorem 3.1"),
        ("new, from App. C, Eq. 14", "New"),
    ],
)
def test_a_claim_stands_under_what_it_is_about(place, expected):
    assert pages.item(place).startswith(expected)


def test_results_name_the_cell_that_measured(tmp_path):
    claim = next(iter(claims.registry().values()))
    output = {"data": {claims.MIME_TYPE: [rows_of(claim)]}}
    page = tmp_path / f"{claim.notebook}.ipynb"
    executed(page, {"outputs": [output], "execution_count": 7})
    assert pages.cell_number(page, claim.id) == 7
    assert pages.cell_number(page, "other") is None
    assert '#claims">cell [7]</a>' in pages.results([rows_of(claim)], tmp_path)


def test_other_presets_have_a_line_below_where_they_tell(tmp_path):
    told = next(c for c in claims.registry().values() if c.expected.get("smoke") == "reproduced")
    untold = next(c for c in claims.registry().values() if c.expected.get("smoke") == "not tested")

    def page(claim, *, verdict="reproduced", value=0.0, **changes):
        changes |= {"notebook": claim.notebook, "preset": "smoke"}
        changes |= {"measured": {claim.id: (value, value, value)}, "over": {claim.id: "exact"}}
        run = RUN.model_copy(update=changes)
        return pages.results([rows_of(claim, verdict)], tmp_path, [run])

    here = told.judge(Interval.exact(0.0))
    assert "<br><small>smoke:&nbsp;0, exact</small>" in page(told, verdict=here)
    assert f"<br><small>smoke:&nbsp;0, exact, {here}</small>" in page(told, verdict="inconclusive")
    assert "<br><small>smoke on a GPU:&nbsp;0" in page(told, device="NVIDIA H100")
    assert "<small>smoke" not in page(untold)
    assert ".json</code>, at 0123456, changed." in page(told, dirty=True)
    assert "in grey" not in pages.results([rows_of(told)], tmp_path, [RUN])


def test_figure_8_has_the_reference_run_below(tmp_path):
    path = provenance.checkout() / "book" / "reference" / "srflow_set5.json"
    run, claim = runs.of_reference(path), claims.registry()["srflow.esrgan-least-robust"]
    rows = [row for row in read_record(path)["rows"] if row["network"] in {"srflow", "esrgan"}]
    signs = {"srflow": 1, "esrgan": -1}
    mean = 2 * sum(signs[row["network"]] * row["output_rgb"] for row in rows) / len(rows)
    assert run.measured[claim.id][0] == pytest.approx(mean, rel=1e-5)
    page = pages.results([rows_of(claim, "inconclusive")], tmp_path, [run])
    assert f"<br><small>Set5:&nbsp;{mean:.3g} [" in page
    assert "at these networks, reproduced</small>" in page
    assert "<code>srflow_set5.json</code>" in page


def test_sources_are_linked_where_they_are_published(tmp_path, monkeypatch):
    claim = next(c for c in claims.registry().values() if c.expected.get("smoke") == "reproduced")
    changes = {"preset": "smoke", "notebook": claim.notebook, "measured": {claim.id: (1, 1, 1)}}
    changes |= {"over": {claim.id: "exact"}}
    run, rows = RUN.model_copy(update=changes), [rows_of(claim)]
    assert "<a href" not in pages.results(rows, tmp_path, [run])
    at = "https://github.com/o/n/blob/abc"
    monkeypatch.setattr(provenance, "published", lambda root: at)
    page = pages.results(rows, tmp_path, [run])
    line = pages.source_line(claim.id)
    assert f'<a href="{at}/{CLAIMS}#L{line}"><code>claims.yaml:{line}</code></a>' in page
    assert f'<a href="{at}/book/reference/runs/{run.file}"><code>{run.file}</code></a>' in page


def test_nothing_is_published_without_an_address_or_with_changes(monkeypatch, tmp_path):
    config = tmp_path / "_config.yml"
    monkeypatch.setattr(provenance, "revision", lambda root: ("abc", False))
    assert provenance.published(tmp_path) == ""
    config.write_text("repository: {url: https://github.com/o/n}")
    assert provenance.published(tmp_path) == "https://github.com/o/n/blob/abc"
    for found in (("abc", True), ("unknown", False)):
        monkeypatch.setattr(provenance, "revision", lambda root, found=found: found)
        assert provenance.published(tmp_path) == ""


# --- Environment and running -----------------------------------------------------------------


def test_the_environment_is_that_of_the_runs():
    toy = RUN.model_copy(update={"versions": {"torch": "2.13.0"}})
    other = RUN.model_copy(update={"notebook": "inpaint", "versions": {"torch": "2.14.0"}})
    page = pages.environment([toy, other], {"toy_tradeoff": "A toy", "inpaint": "Inpainting"})
    line = "| [Inpainting](inpaint.ipynb) | laptop | CPU, 2 cores | 2 min | `0123456789ab` |"
    assert line in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "| torch | 2.13.0, 2.14.0 |" in page
    assert "took 5\N{NO-BREAK SPACE}min" in page


@pytest.mark.parametrize(("seconds", "said"), [(89, "89 s"), (200, "3 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds, said):
    assert pages.duration(seconds) == said.replace(" ", "\N{NO-BREAK SPACE}")


def test_every_notebook_preset_and_parameter_is_on_the_page_that_says_how_to_run():
    page = pages.running([RUN], [], {}).replace("\N{NO-BREAK SPACE}", " ")
    for name in provenance.notebooks():
        for preset in config.PRESETS:
            output = f"{name}-{preset}.ipynb"
            ours = f"stochrestore run {name} --preset {preset}\n"
            theirs = f"papermill notebooks/{name}.ipynb {output} \\\n    -p preset {preset}\n"
            assert 0 < page.index(ours) < page.index(theirs)
        fields = registry.chapter(name).Settings.model_fields
        source = provenance.checkout() / "notebooks" / f"{name}.ipynb"
        assert set(notebook.parameter_names(source)) <= set(fields)
    sizes = ["512 MiB", "1.0 + 4.0 MiB"]
    cells = ["`laptop`", "2 min", "3 min", *sizes, "CPU, 2 cores", "this build"]
    assert f"| {' | '.join(cells)} |" in page
    assert page.count("| not measured |") == len(config.PRESETS) * len(provenance.notebooks()) - 1
    assert page.count("stochrestore: ") == 4
    headings = [t for t in MarkdownIt().parse(page) if t.type == "heading_open"]
    assert "| inpaint, celeba, robust_sto_gan | 1 | 1,200,000 |" in page  # the paper's plan
    assert len(headings) == 5 + len(provenance.notebooks())  # no fence swallows what follows
    assert "seed: got 1.5 (float); allowed: a valid integer" in page


def test_other_runs_are_dated_and_those_on_a_gpu_have_a_line_of_their_own():
    smoke = RUN.model_copy(update={"preset": "smoke", "weights": 0, "dirty": True})
    gpu = RUN.model_copy(update={"device": "NVIDIA H100", "cpu_seconds": 0.0})
    page = pages.running([RUN], [smoke, gpu], {}).replace("\N{NO-BREAK SPACE}", " ")
    assert "| 1.0 MiB | CPU, 2 cores | at 0123456, changed |" in page
    assert "| `laptop` | 2 min |  | 512 MiB |" in page
    assert page.count("| `laptop` | 2 min |") == 2
    assert "No run on a GPU" not in page
    assert "No run on a GPU was measured." in pages.running([RUN], [smoke], {})


def test_pages_are_written_beside_the_notebooks(tmp_path, capsys):
    paths = pages.write(tmp_path)
    written = [path for path in paths if path.suffix == ".md"]
    assert {path.name for path in written} == {
        "equations.md",
        "results.md",
        "environment.md",
        "running.md",
    }
    assert all(re.match("# ", path.read_text("utf-8")) for path in written)
    assert (tmp_path / "figures" / "neighbours.html").exists()
    assert claims_page.by_kind(claims_page.records(tmp_path)) in paths[1].read_text("utf-8")


def test_students_pages_hold_no_solution(tmp_path):
    """And a picture of what to expect, from wherever they are written."""
    written = pages.student_pages(tmp_path / "exercises")
    assert len(written) == 9
    pictured = 0
    for path in written:
        text = notebook.text(path)
        assert "SOLUTION" not in text
        assert notebook.STUB in text
        for picture in re.findall(r"\]\(([^)]+\.png)\)|src=\"([^\"]+\.png)", text):
            assert (path.parent / next(filter(None, picture))).exists()
            pictured += 1
    assert pictured >= 8
    code = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION\n\n\nf(1)"
    stub = f"    # your code here\n    {notebook.STUB}"  # as nbgrader hands it out
    assert notebook.unsolved(code) == f"def f(x):\n{stub}\n\n\nf(1)"


def test_front_figures_are_small_copies_of_the_chapters(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGBA", (1800, 600), "#0072b2").save(buffer, "png")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    cells = [
        {"metadata": {"mystnb": {"figure": {"name": name}}}, "outputs": [{"data": data}]}
        for name in ("fig-toy-estimators", "fig-of-no-interest")
    ]
    executed(tmp_path / "toy_tradeoff.ipynb", *cells)
    (copy,) = pages.front_figures(tmp_path)
    assert copy == tmp_path / "figures" / "fig-toy-estimators.webp"
    assert pages.FRONT_FIGURES["fig-toy-estimators"] == [[(0, 0, 0.525, 0.5)]]
    assert Image.open(copy).size == (560, 178)  # of 945 × 300
    monkeypatch.setattr(provenance, "notebooks", lambda: ("toy_tradeoff",))  # all there are
    others = sorted(set(pages.FRONT_FIGURES) - {"fig-toy-estimators"})
    with pytest.raises(InputError, match=re.escape(f"front page: got {others}") + ".*all in"):
        pages.front_figures(tmp_path)


def test_a_front_figure_may_be_put_together_from_parts():
    colors = ["red", "lime", "blue", "black"]
    picture = Image.new("RGB", (80, 30))
    for i, color in enumerate(colors):
        picture.paste(Image.new("RGB", (20, 30), color), (20 * i, 0))
    rows = [[(0, 0, 0.25, 1 / 3)], [(0.5, 0, 0.75, 1), (0.25, 0, 0.5, 1)]]
    whole = pages.put_together(picture, rows)
    assert whole.size == (40, 40)
    seen = [whole.getpixel(place)[:3] for place in ((5, 5), (5, 20), (25, 20))]
    assert seen == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    assert whole.getpixel((30, 5))[3] == 0  # nothing is beside the first row


def test_every_front_figure_is_in_a_chapter():
    folder = provenance.checkout() / "notebooks"
    texts = "".join(path.read_text("utf-8") for path in folder.glob("*.ipynb"))
    assert all(f'"name": "{name}"' in texts for name in pages.FRONT_FIGURES)
