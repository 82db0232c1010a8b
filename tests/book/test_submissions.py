import json
import shutil
import subprocess
import sys
import zipfile

import pytest

from stochrestore.book import notebook, provenance, submissions
from stochrestore.errors import InputError

SOLVED = provenance.checkout() / "notebooks" / "exercises" / "6_theorem.ipynb"
NAME = SOLVED.name


@pytest.fixture(scope="module")
def whole():
    """The text of a notebook as it should be handed in."""
    return SOLVED.read_text("utf-8")


@pytest.fixture
def course(tmp_path, whole):
    """A course with one exercise, and a way to hand a file in."""
    release = tmp_path / "release" / "exercises"
    release.mkdir(parents=True)
    (release / NAME).write_text(whole, "utf-8")

    def hand_in(place, content=whole):
        path = tmp_path / "submitted" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return tmp_path, hand_in


def changed(whole, change):
    """The text of the notebook with its cells changed."""
    found = json.loads(whole)
    found["cells"] = change(found["cells"])
    return json.dumps(found)


def packed(folder, files):
    """The bytes of an archive."""
    archive = folder / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
    data = archive.read_bytes()
    archive.unlink()
    return data


def said(folder):
    return [str(fault) for fault in submissions.faults(folder)]


def test_work_in_its_place_has_no_faults(course):
    folder, hand_in = course
    hand_in(f"ada/exercises/{NAME}")
    hand_in("ada/exercises/notes.txt", "mine")
    hand_in(f"ada/exercises/.ipynb_checkpoints/{NAME}")
    assert said(folder) == []
    done = subprocess.run(
        [sys.executable, "-m", "stochrestore", "class", "check", folder],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "All that was handed in can be marked.\n")


def exiting(cells):
    return [c | ({"source": ["exit()"]} if c["id"] == "theorem-only" else {}) for c in cells]


WRONG = {
    "cut": (lambda t: t[:100], "ask for it again"),
    "list": (lambda t: "[]", "ask for it again"),
    "empty": (lambda t: "", "it is empty"),
    "old": (lambda t: json.dumps({"worksheets": [], "nbformat": 3, "metadata": {}}), "format 3"),
    "lacks": (
        lambda t: changed(t, lambda cells: [c for c in cells if c["id"] != "theorem-only-check"]),
        "lacks the cells ['theorem-only-check']",
    ),
    "twice": (
        lambda t: changed(t, lambda cells: cells + [c for c in cells if c["id"] == "theorem-only"]),
        "more than one of the cells ['theorem-only']",
    ),
    "unnamed": (
        lambda t: t.replace('"grade_id": "theorem-only-check"', '"other": "a"'),
        "lacks the cells ['theorem-only-check']",
    ),
    "exits": (lambda t: changed(t, exiting), "calls exit()"),
}


@pytest.mark.parametrize("student", WRONG)
def test_a_notebook_that_cannot_be_marked_is_named(course, whole, student):
    folder, hand_in = course
    change, words = WRONG[student]
    hand_in("ada/exercises/" + NAME)
    hand_in(f"{student}/exercises/{NAME}", change(whole))
    (sentence,) = said(folder)
    assert sentence.startswith(f"{student}: ")
    assert words in sentence
    assert submissions.mend(folder) == []  # what only the student can do


def test_names_and_folders_are_told(course):
    folder, hand_in = course
    hand_in("ada/exercises/theorem.ipynb")
    (folder / "submitted" / "ben" / "exercises" / NAME).mkdir(parents=True)
    (folder / "submitted" / "cy" / "exercises").mkdir(parents=True)
    found = said(folder)
    words = ("give it back its name", "is a folder; rename it", "handed in no notebook")
    for sentence, word in zip(found, words, strict=True):
        assert word in sentence


SAFE = {
    "deep": lambda hand_in, folder, text: hand_in(f"deep/exercises/exercises/{NAME}"),
    "flat": lambda hand_in, folder, text: hand_in(f"flat/{NAME}"),
    "other": lambda hand_in, folder, text: hand_in(f"other/exercise/{NAME}"),
    "mark": lambda hand_in, folder, text: hand_in(f"mark/exercises/{NAME}", f"\ufeff{text}"),
    "zip": lambda hand_in, folder, text: hand_in(
        "zip/exercises/work.zip", packed(folder, {f"exercises/{NAME}": text})
    ),
    "bare": lambda hand_in, folder, text: hand_in(
        "bare.zip",
        packed(folder, {f"../../{NAME}": text, f"__MACOSX/._{NAME}": "x"}),
    ),
}


@pytest.mark.parametrize("student", SAFE)
def test_what_is_safe_to_mend_is_mended(course, whole, student):
    folder, hand_in = course
    SAFE[student](hand_in, folder, whole)
    found = submissions.faults(folder)
    assert all(fault.student == student and fault.mend for fault in found)
    assert found
    assert submissions.mend(folder)
    assert said(folder) == []
    place = folder / "submitted" / student / "exercises" / NAME
    assert place.read_text("utf-8") == whole
    assert sorted(path.name for path in folder.iterdir()) == ["release", "submitted"]


def test_nothing_is_replaced_by_mending(course, whole):
    folder, hand_in = course
    first = hand_in(f"ada/exercises/{NAME}")
    hand_in(f"ada/exercises/exercises/{NAME}", whole.replace("a", "b"))
    (sentence,) = said(folder)
    assert "another of its name is there" in sentence
    assert submissions.mend(folder) == []
    assert first.read_text("utf-8") == whole


def test_the_command_offers_to_mend_and_says_what_it_did(course, whole):
    folder, hand_in = course
    hand_in(f"ada/exercises/exercises/{NAME}")
    hand_in(f"ben/exercises/{NAME}", whole[:100])

    def check(*options):
        command = [sys.executable, "-m", "stochrestore", "class", "check", folder, *options]
        return subprocess.run(command, capture_output=True, text=True)

    done = check()
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()[:2]] == ["ada", "ben"]
    assert "--fix" in done.stderr.splitlines()[2]
    done = check("--fix")
    assert done.stdout.startswith("mended: ada: ")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["ben"]


def test_a_course_that_is_not_there_is_named(tmp_path, whole):
    with pytest.raises(InputError, match="`make class` made"):
        submissions.faults(tmp_path)
    release = tmp_path / "release" / "exercises"
    release.mkdir(parents=True)
    shutil.copy(SOLVED, release)
    with pytest.raises(InputError, match="one folder a student"):
        submissions.faults(tmp_path)
    assert notebook.code_cells(release / NAME)
