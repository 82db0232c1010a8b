import csv
import html
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from stochrestore.book import classroom, notebook, submissions
from stochrestore.book.classroom import InputError, NotYet, check
from stochrestore.book.provenance import checkout

ROOT = checkout()
EXERCISES = ROOT / "notebooks" / "exercises"
NOTEBOOKS = sorted(EXERCISES.glob("*.ipynb"))
PICTURES = EXERCISES / classroom.PICTURES
NAMES = [path.stem for path in NOTEBOOKS]
SMALL = "6_theorem"  # without torch: its kernels start at once
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION$", re.MULTILINE | re.DOTALL)


def kind(cell, name):
    return cell["metadata"].get("nbgrader", {}).get(name, False)


def ids(path, name):
    return [cell["id"] for cell in notebook.code_cells(path) if kind(cell, name)]


def rewritten(path, folder, change):
    """A copy of a notebook, the source of each code cell changed by a function of the cell."""
    found = notebook.read(path)
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = change(cell)
    copy = folder / path.name
    notebook.write(copy, found)
    return copy


def command(name, *arguments):
    """Run ``stochrestore class``; the finished process, with its output as text."""
    asked = [sys.executable, "-m", "stochrestore", "class", name, *arguments]
    return subprocess.run(asked, capture_output=True, text=True)


def without_solution(source):
    return SOLUTION.sub(lambda found: f"{found[1]}{notebook.STUB}", source)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """What `make class` makes."""
    course = tmp_path_factory.mktemp("class")
    classroom.build(EXERCISES, course)
    return course


def test_a_check_speaks_in_a_sentence():
    check(True, "never said")
    with pytest.raises(NotYet, match=r"too long\.") as caught:
        check(0, "δ is too long.")
    assert caught.value._render_traceback_() == ["Not yet: δ is too long."]


def test_there_are_nine_notebooks_of_two_exercises_or_more_with_hints_and_times():
    assert len(NOTEBOOKS) >= 9
    for path in NOTEBOOKS:
        text = notebook.text(path)
        exercises = re.findall(r"^## Exercise (\d\.\d) · .* \((\d+) minutes\)$", text, re.MULTILINE)
        number = path.stem[0]
        expected = [f"{number}.{i + 1}" for i in range(len(ids(path, "solution")))]
        assert [exercise for exercise, _ in exercises] == expected
        assert len(expected) >= 2
        assert all(5 <= int(minutes) <= 60 for _, minutes in exercises)
        total = sum(int(minutes) for _, minutes in exercises)
        stated = re.search(r"^\*\*(1 hour|\d+ minutes)\.\*\* \*Goal\*: ", text, re.MULTILINE)[1]
        assert total == (60 if stated == "1 hour" else int(stated.split()[0]))
        assert len(re.findall("<summary>Hint", text)) >= len(expected)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_metadata_are_those_nbgrader_marks_by(path):
    cells = notebook.code_cells(path)
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    marked = [cell for cell in cells if "nbgrader" in cell["metadata"]]
    for cell in marked:
        data = cell["metadata"]["nbgrader"]
        assert (data["schema_version"], data["grade_id"]) == (3, cell["id"])
        assert data["locked"] != data["solution"]
        assert ("points" in data) == data["grade"]
        assert ("### BEGIN SOLUTION" in cell["source"]) == data["solution"]
    # each stub is followed by its own check
    order = [cell["id"] for cell in marked]
    for stub in ids(path, "solution"):
        assert order[order.index(stub) + 1] == f"{stub}-check"
    assert ids(path, "grade") == [f"{stub}-check" for stub in ids(path, "solution")]


def test_the_pictures_of_what_to_expect_are_those_the_solved_notebooks_draw(tmp_path):
    small = {path.name: path for path in PICTURES.iterdir()}
    linked = [
        name
        for path in NOTEBOOKS
        for name in re.findall(r"!\[[^\]]{40,}\]\(expected/(\S+)\)", notebook.text(path))
    ]
    assert sorted(linked) == sorted(small)
    assert max(path.stat().st_size for path in small.values()) < 60_000
    classroom.run(EXERCISES / f"{SMALL}.ipynb", tmp_path)
    (drawn,) = tmp_path.iterdir()
    with Image.open(drawn) as new, Image.open(small[drawn.name]) as old:
        assert abs(new.width - old.width) <= 3
        assert abs(new.height - old.height) <= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_solved_notebooks_pass(path):
    assert classroom.run(path) == {}


@pytest.mark.parametrize("name", NAMES)
def test_unsolved_notebooks_fail_exactly_at_the_stubs(course, name):
    path = course / "release" / classroom.ASSIGNMENT / f"{name}.ipynb"
    errors = classroom.run(path)
    needs = [c["id"] for c in notebook.code_cells(path) if c["id"].endswith(("-check", "-look"))]
    assert sorted(errors) == sorted(needs)
    assert {(type(error), str(error)) for error in errors.values()} == {
        (NotImplementedError, "your turn")
    }


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_where_only_the_last_is_unsolved_the_others_pass(path, tmp_path):
    last = ids(path, "solution")[-1]
    copy = rewritten(
        path, tmp_path, lambda c: without_solution(c["source"]) if c["id"] == last else c["source"]
    )
    errors = classroom.run(copy)
    assert {type(error) for error in errors.values()} == {NotImplementedError}
    assert [cell for cell in ids(path, "grade") if cell in errors] == [f"{last}-check"]


MISTAKES = {
    "1_precision_recall": [
        ("nearest_first[:, k]", "nearest_first[:, k - 1]", "leave it out"),
        ("radii(fake, k)[None, :]", "radii(real, k)[:, None]", "whose balls they are"),
        (".norm(dim=2)\n    nearest", ".norm(p=1, dim=2)\n    nearest", "Euclidean"),
        ("between <= radii(real, k)[:, None]", "between < radii(real, k)[:, None]", "on the edge"),
        ("between <= radii(fake, k)[None, :]", "between < radii(fake, k)[None, :]", "on the edge"),
    ],
    "2_sine": [
        ("(1 - y**2).sqrt() * ", "", "outside the disk"),
        ("(alpha * y).sin()", "-(alpha * y).sin()", "the sign of y"),
        ("change.square().mean().sqrt()", "change.std()", "subtract the mean"),
        (
            "change.square().mean().sqrt().item() / epsilon",
            "alpha * math.sqrt(3 / 8) + 0 * change.sum().item()",
            "the y that are given",
        ),
        ("next(enough)", "40.0 if target > 0 else 1.0", "For another target"),
        (
            "next(enough)",
            "min(ALPHAS, key=lambda a: abs(quality(a).recall - target))",
            "For another target",
        ),
        ("change.square().mean().sqrt()", "change.abs().mean()", "square first"),
        ("next(enough)", "list(enough)[-1]", "take the first"),
    ],
    "3_attack": [
        ("delta.norm(dim=1, keepdim=True)", "delta.norm()", "length of each row by itself"),
        ("radius * torch.randn(", "0 * torch.randn(", "start at a random point"),
        ("delta + lr * direction", "delta - lr * direction", "downhill"),
        ("lr * direction", "lr * uphill.sign()", "first singular vector"),
        ("generator=generator, ", "", "same generator"),
        ("(attacked - clean).square()", "(attacked - clean).abs()", "squared Euclidean"),
        ("sum(dim=2).mean(dim=0)", "sum(dim=2)[0]", "mean over the seeds"),
        ("sum(dim=2).mean(dim=0)", "sum(dim=2).amax(dim=0)", "mean over the seeds"),
    ],
    "4_robustness_loss": [
        ("restore(estimator, y, z)\n", "restore(estimator, y, z).detach()\n", "6ε²"),
        ("sum(dim=-1).mean()", "mean()", "Sum over the output's dimensions"),
        ("optimizer.zero_grad()", "pass", "set to zero before each step"),
        ("/ ATTACK.radius**2", "* 1", "divided by ε²"),
        ("range(steps)", "range(200)", "`steps` times"),
    ],
    "5_projection": [
        ("unknown = x.shape[2] - y.shape[2]", "unknown = 24", "However many rows"),
        (
            "return torch.cat([x[:, :, :unknown], y], dim=2)",
            "x[:, :, unknown:] = y; return x",
            "changed its input",
        ),
        ("x + BY_4.lift(missing_mean)", "BY_4.lift(y)", "keep its details"),
        ("x + BY_4.lift(missing_mean)", "x - BY_4.lift(missing_mean)", "Is the sign right"),
        ("x + BY_4.lift(missing_mean)", "(x + BY_4.lift(missing_mean)).clamp(0, 1)", "clamp"),
    ],
    "6_theorem": [
        ("p_x[x] / p_y[y]", "p_x[x]", "divide by p_Y(y)"),
        ("estimator[y][x] * p_y[y]", "estimator[y][x] / len(p_y)", "weighted by p_Y(y)"),
        ("for choice in product(*fibres)]", "for choice in zip(*fibres)]", "all combinations"),
    ],
    "7_zigzag": [
        ("2 * math.pi * f * y", "math.pi * f * y", "with the 2"),
        ("torch.where(number % 2 == 0, x[:, 1], 1 - x[:, 1])", "x[:, 1]", "it descends"),
    ],
    "8_mode_collapse": [
        ("samples.std(dim=0)", "samples.std(dim=1)", "over the seeds"),
        ("(2 * level - 1)", "level", "from [0, 1] to [−1, 1]"),
        ("moved**0.5 / 1e-3", "moved / 1e-3", "take the root"),
        ("moved**0.5 / 1e-3", "moved / 1e-6", "take the root"),
        (
            "precision_recall(REAL, restored[0], 5)",
            "precision_recall(REAL, restored[:, 0], 5)",
            None,
        ),
    ],
    "9_after_the_paper": [
        (".abs().max()", ".max()", "A descent is as steep"),
        ("/ y.diff()", "* (len(y) - 1)", "evenly spaced"),
        (
            "2 / (math.sqrt(12) * (math.sqrt(1 + 2 * slope**2) + 1))",
            "1 / (math.sqrt(12) * max(slope, 1))",
            "the formula above",
        ),
        (".mean(dim=0)", ".amax(dim=0)", "not the largest"),
        ("torch.maximum(*moved)", "(sum(moved) / 2)", "the larger of the two"),
        ("/ radius**2", "/ radius", "square of the radius"),
        ("torch.full_like(z, value)", "value * z", "answers all seeds alike"),
    ],
}
"""By notebook: what stands in a solution, what stands there by mistake, and what is said of it."""


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [(name, *mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_a_common_mistake_is_explained(name, right, wrong, words, tmp_path):
    path = EXERCISES / f"{name}.ipynb"
    holds = [c["id"] for c in notebook.code_cells(path) if right in c["source"]]
    solutions = [cell for cell in holds if cell in ids(path, "solution")]
    assert len(solutions) == 1

    order = [cell["id"] for cell in notebook.code_cells(path)]
    judged = order.index(f"{solutions[0]}-check")

    def mistaken(cell):
        if order.index(cell["id"]) > judged:
            return ""
        return cell["source"].replace(right, wrong) if cell["id"] in solutions else cell["source"]

    errors = classroom.run(rewritten(path, tmp_path, mistaken))
    said = errors[f"{solutions[0]}-check"]
    assert isinstance(said, NotYet)
    assert words is None or words in str(said)
    assert len(str(said)) > 40


def readable(text):
    """The text of a page or notebook as a reader sees it: no tags, no escapes of JSON."""
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    return text.replace("\\n", "\n").replace('\\"', '"')


def test_no_line_of_a_solution_is_in_what_students_get(course):
    secret = [line for path in NOTEBOOKS for line in classroom.solution_lines(path)]
    assert len(secret) > 3 * len(NOTEBOOKS)
    with zipfile.ZipFile(course / "exercises.zip") as archive:
        texts = {name: archive.read(name).decode(errors="replace") for name in archive.namelist()}
    release = course / "release"
    assert set(texts) == {
        path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()
    }
    leaks = [(n, line) for n, text in texts.items() for line in secret if line in readable(text)]
    assert not leaks
    assert not any("BEGIN SOLUTION" in text for text in texts.values())
    # the test can see a leak
    assert any(line in readable(NOTEBOOKS[0].read_text("utf-8")) for line in secret)


def test_no_line_of_a_solution_is_in_the_book_but_behind_the_page_for_teachers():
    secret = [line for path in NOTEBOOKS for line in classroom.solution_lines(path)]
    prose = [*(ROOT / "book").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    built = [p for p in (ROOT / "_build" / "html").rglob("*") if p.suffix in PAGES]
    # The library's own code has an attack, too, which is no solution though lines may be alike.
    built = [path for path in built if "_modules" not in path.parts]
    solved = {path.name for path in NOTEBOOKS}  # the downloads of that page
    for path in [*prose, *built]:
        if "exercise_solutions" in path.name or (
            path.name in solved and "_downloads" in path.parts
        ):
            continue
        text = readable(path.read_text("utf-8", errors="replace"))
        assert not [line for line in secret if line in text], path


PAGES = {".html", ".ipynb", ".md", ".txt", ".py", ".js", ".json"}


def test_the_same_exercises_give_the_same_zip(course, tmp_path):
    again = classroom.build(EXERCISES, tmp_path / "elsewhere")
    assert again.read_bytes() == (course / "exercises.zip").read_bytes()


def test_a_leak_stops_the_build_and_what_jupyter_left_is_left_out(tmp_path, capsys):
    exercises = tmp_path / "exercises"
    exercises.mkdir()
    (exercises / "Untitled.ipynb").touch()
    (exercises / f"{SMALL}-Copy1.ipynb").touch()
    path = EXERCISES / f"{SMALL}.ipynb"
    (line, *_) = classroom.solution_lines(path)
    hint = f"# hint: {line}\n"
    rewritten(path, exercises, lambda c: (hint if c["id"] == "theorem-setup" else "") + c["source"])
    with pytest.raises(InputError, match="lines of solutions"):
        classroom.build(exercises, tmp_path / "class")
    assert not (tmp_path / "class" / "exercises.zip").exists()
    assert [path.name for path in (tmp_path / "class").glob("source/*/*.ipynb")] == [path.name]
    assert "Untitled.ipynb is no exercise and is left out" in capsys.readouterr().err


def test_what_cannot_be_built_is_said_in_a_line(tmp_path):
    with pytest.raises(InputError, match="a folder with notebooks"):
        classroom.build(tmp_path, tmp_path / "class")
    (tmp_path / "broken.ipynb").write_text("{}")
    done = command("build", tmp_path, tmp_path / "class")
    assert done.returncode == 2
    assert re.fullmatch(r"stochrestore: notebook .*broken.ipynb cannot be read: .*\n", done.stderr)
    found = notebook.read(EXERCISES / f"{SMALL}.ipynb")
    marked = next(cell for cell in found["cells"] if "nbgrader" in cell["metadata"])
    found["cells"].append({**marked, "id": "again"})  # two cells of one name
    notebook.write(tmp_path / "broken.ipynb", found)
    with pytest.raises(InputError, match="nbgrader generate_assignment exercises --force: "):
        classroom.build(tmp_path, tmp_path / "class")


def test_autograding_gives_each_student_the_points_due(tmp_path):
    exercises, course = tmp_path / "exercises", tmp_path / "class"
    exercises.mkdir()
    source = EXERCISES / f"{SMALL}.ipynb"
    shutil.copy(source, exercises)
    classroom.build(exercises, course)
    release = course / "release" / "exercises" / source.name
    solved = {cell["id"]: cell["source"] for cell in notebook.code_cells(source)}
    half = set(ids(source, "solution")[:-1])
    first = ids(source, "solution")[0]

    def instead(code):
        """The solved notebook with other code in place of the first solution."""
        return lambda cell: code if cell["id"] == first else solved[cell["id"]]

    handed_in = {
        "ada": lambda cell: solved[cell["id"]],
        "ben": lambda cell: cell["source"],
        # does the first ones, and tries to get the last without work
        "cy": lambda cell: (
            solved[cell["id"]] if cell["id"] in half else cell["source"].replace("check(", "print(")
        ),
        "bob": instead("while True:\n    pass"),
        "bea": instead("input()"),
        "bix": instead("exit()"),
        "bud": instead("import os\nos._exit(0)"),
    }
    for student, change in handed_in.items():
        folder = course / "submitted" / student / "exercises"
        folder.mkdir(parents=True)
        rewritten(release, folder, change)
    config = course / "nbgrader_config.py"
    patience = re.sub(r"timeout = \d+", "timeout = 15", config.read_text("utf-8"))
    config.write_text(patience, "utf-8")
    with pytest.raises(InputError, match=r"nbgrader autograde exercises: .*Kernel died"):
        classroom.nbgrader(course, "autograde", "exercises")  # bud's process is gone
    assert {fault.student for fault in submissions.faults(course)} == {"bix", "bud"}
    marked = {path.parent.name for path in (course / "autograded").glob("*/exercises")}
    assert marked == set(handed_in) - {"bud"}
    points = {
        cell["id"]: cell["metadata"]["nbgrader"]["points"]
        for cell in notebook.code_cells(source)
        if kind(cell, "grade")
    }
    total = sum(points.values())
    last = points[ids(source, "grade")[-1]]
    found = grades(course)
    assert found.pop("bix") == found.pop("bea") == found.pop("bob") < total
    assert found.pop("bud") == 0
    assert found == {"ada": total, "ben": 0, "cy": total - last}


def grades(course):
    """Points of each student, from the table that nbgrader exports."""
    classroom.nbgrader(course, "export")
    with (course / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
