"""One large run, kept whole: it continues where it ended, and names no folder of the machine."""

import json
import shutil

import pytest

from stochrestore import cli
from stochrestore.book import execute, reference_run
from stochrestore.errors import InputError
from stochrestore.experiments import inpaint, registry

NAME = "theorem_3_1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "theorem"
    command = ["stochrestore", "reference", NAME, "--preset", "smoke", "-p", "problems=20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [*command, "-o", str(folder)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    return folder


def test_a_chapter_without_networks_leaves_notebook_numbers_and_page(made):
    record = json.loads((made / f"{NAME}.json").read_text())
    assert record["given"] == {"problems": 20}
    assert record["measured"]
    text = (made / f"{NAME}.md").read_text()
    assert f"stochrestore reference {NAME} --preset smoke -p problems=20" in text
    assert "| the paper says |" in text
    for path in made.glob("*.*"):
        assert str(made).encode() not in path.read_bytes()


def test_what_was_done_is_not_done_again(made, monkeypatch):
    monkeypatch.setattr(execute, "execute", lambda *_: pytest.fail("executed again"))
    reference_run.make(NAME, "smoke", {"problems": 20}, made)
    with pytest.raises(pytest.fail.Exception, match="executed again"):
        reference_run.make(NAME, "smoke", {"problems": 21}, made)


def test_networks_are_trained_first_and_kept_with_their_curves(made, tmp_path, monkeypatch):
    """The notebook is another chapter's here; it is given the folder of the networks."""
    seen = {}

    def executed(name, preset, given, output):
        seen.update(given, name=name, finished=len(list(tmp_path.rglob("*-seed0.json"))))
        shutil.copy(made / f"{NAME}.ipynb", output)

    monkeypatch.setattr(execute, "execute", executed)
    monkeypatch.chdir(tmp_path)
    few = {"data": "fashion", "steps": 2, "n_eval": 16}
    page = reference_run.make("inpaint", "smoke", few, tmp_path)
    assert seen["weights"] == "weights"
    assert seen["finished"] == 4
    assert (tmp_path / "inpaint_curves.png").read_bytes().startswith(b"\x89PNG")
    assert "inpaint_curves.png" in page.read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 4
    reference_run.make("inpaint", "smoke", few, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    jobs = inpaint.all_jobs(registry.load("inpaint", "smoke", **few))
    assert all(job.path(tmp_path / "weights").exists() for job in jobs.values())


def test_weights_are_its_own(tmp_path):
    with pytest.raises(InputError, match="reference: weights: got 'x'"):
        reference_run.make("inpaint", "smoke", {"weights": "x"}, tmp_path)
