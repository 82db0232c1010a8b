import re
import subprocess
import sys
from pathlib import Path

import pytest

from stochrestore.book import notebook, provenance
from stochrestore.errors import InputError
from stochrestore.experiments import registry

STAMP = {
    "commit": "0123456789abcdef",
    "dirty": True,
    "preset": "laptop",
    "given": {},
    "parameters": {"preset": "laptop", "seed": 0, "scale": "a|b"},
    "seed": 0,
    "device": "CPU, 2 cores",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "seconds": 72.6,
    "sources": {"src/stochrestore/weights/toy/gan.safetensors": "f" * 64, "a.py": "0" * 64},
}


def test_a_page_depends_on_what_it_imports_and_on_nothing_else(checkout):
    listing = "from stochrestore.book import provenance as p; print(*p.sources('coin', 'smoke'))"
    sources = set(checkout.python("-c", listing).stdout.split())
    library = "src/stochrestore"
    assert sources == {
        "notebooks/coin.ipynb",
        *("installed", "versions"),
        f"{library}/__init__.py",
        f"{library}/book/__init__.py",
        f"{library}/book/claims.py",
        f"{library}/config.py",
        f"{library}/errors.py",
        f"{library}/experiments/__init__.py",
        f"{library}/experiments/coin.py",
        f"{library}/figures/__init__.py",
        f"{library}/figures/numbers.py",  # those of a claim
        f"{library}/metrics/__init__.py",
        f"{library}/metrics/interval.py",
        f"{library}/problems/__init__.py",
        f"{library}/problems/coin_problem.py",  # imported inside a function
        f"{library}/book/claims.yaml#coin",
        f"{library}/presets/smoke.yaml#coin",
    }


# All that decides what a notebook shows, and a change of each.
DECIDES = """
import json, pathlib
from importlib import metadata
from stochrestore.book import claims, provenance

library = pathlib.Path("src/stochrestore")
(library / "weights" / "coin" / "digits").mkdir(parents=True)
(library / "weights" / "features").mkdir()
module = library / "experiments" / "coin.py"
uses = "from stochrestore.data import downloads\\nfrom stochrestore.metrics import features\\n"
module.write_text(module.read_text("utf-8") + uses, "utf-8")
files = [
    pathlib.Path("notebooks/coin.ipynb"),
    pathlib.Path("requirements.lock"),
    library / "problems" / "coin_problem.py",
    library / "data" / "selfexsr_x4.json",
    library / "weights" / "coin" / "digits" / "gan.safetensors",
    library / "weights" / "features" / "attributes.safetensors",
    library / "presets" / "smoke.yaml",
    library / "book" / "claims.yaml",
]
for file in files:
    file.touch()

def told():
    claims.registry.cache_clear()
    return provenance.fingerprint("coin", "smoke")

def change(file, old, new):
    before, first = file.read_bytes(), told()
    file.write_bytes(before.replace(old, new) if old else before + new)
    print(file.name, told() != first)
    file.write_bytes(before)

for file in files[:-2]:
    change(file, b"", b" ")
presets, listed = files[-2:]
presets.write_text("coin: {epsilon: 0.5, data=digits: {epsilon: 0.1}}")
change(presets, b"0.5", b"0.6")
change(presets, b"0.1", b"0.2")  # the section of a data set that is not chosen
change(presets, b"}}", b"}}\\ndice: {epsilon: 1}")
change(listed, b"> 0.4", b"> 0.3")
change(listed, b"== 3.5", b"== 3.6")  # another notebook's
first, real = told(), metadata.version
for package in ("torch", "pillow", "snakemake"):
    metadata.version = lambda name: "9" if name == package else real(name)
    print(package, told() != first)
"""


def test_whatever_decides_what_a_page_shows_makes_it_stale_and_nothing_else(checkout):
    done = checkout.python("-c", DECIDES)
    assert done.stderr == ""
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert [name for name, stale in lines if stale != "True"] == [
        "smoke.yaml",
        "claims.yaml",
        "snakemake",
    ]
    assert len(lines) == 14


def test_magics_do_not_hide_imports(checkout):
    path = checkout.root / "notebooks" / "coin.ipynb"
    found = notebook.read(path)
    lines = "%matplotlib inline\nif True:\n    !ls\nimport stochrestore.attacks as attacks\n"
    found["cells"][2]["source"] = lines
    notebook.write(path, found)
    listing = "from stochrestore.book import provenance; print(*provenance.modules('coin'))"
    names = {Path(word).name for word in checkout.python("-c", listing).stdout.split()}
    assert {"attacks.py", "base.py"} <= names
    assert "losses.py" not in names


def test_revision_tells_commit_and_changes(tmp_path):
    assert provenance.revision(tmp_path) == ("unknown", False)

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    commit, dirty = provenance.revision(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert not dirty
    (tmp_path / "file").write_text("2")
    assert provenance.revision(tmp_path) == (commit, True)
    (tmp_path / "inside").mkdir()  # unpacked in someone else's repository
    assert provenance.revision(tmp_path / "inside") == ("unknown", False)


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.revision(Path(__file__).parents[2]) == ("unknown", False)


def test_the_footer_says_what_the_page_was_made_from():
    text = provenance.footer(STAMP)
    said = ["`0123456789ab`, with local changes", "laptop", "73 s", "torch 2.13.0", "2 files"]
    assert all(words in text for words in said)
    assert f"`gan.safetensors` {'f' * 16}…" in text
    assert r"scale = 'a\|b'" in text  # a bar would end the table's cell
    assert "with local changes" not in provenance.footer(STAMP | {"dirty": False})


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        (None, "no stamp"),
        (STAMP, "executed at preset laptop, the book's is smoke"),
        (STAMP | {"preset": "smoke", "given": {"seed": 3}}, "parameters of its own: `seed = 3`"),
    ],
)
def test_a_page_not_made_for_the_book_has_no_place_in_it(tmp_path, stamp, said):
    page = tmp_path / "coin.ipynb"
    metadata = {} if stamp is None else {"stochrestore": stamp}
    notebook.write(page, {"cells": [], "metadata": metadata, "nbformat": 4})
    (problem,) = provenance.problems(page, "smoke")
    assert said in problem


PICTURE = {"mystnb": {"image": {"alt": "a"}}}


@pytest.mark.parametrize(
    ("outputs", "said"),
    [([{"data": {"image/png": "a"}}], ""), ([{"data": {"text/plain": "a"}}], "lost its picture")],
)
def test_a_page_without_its_picture_is_damaged(tmp_path, outputs, said):
    page = tmp_path / "coin.ipynb"
    cell = {"cell_type": "code", "metadata": PICTURE, "source": "", "outputs": outputs}
    found = {"cells": [cell | {"execution_count": 2}], "metadata": {notebook.STAMP: STAMP}}
    notebook.write(page, found | {"nbformat": 4})
    assert said in provenance.damage(page)
    assert bool(provenance.damage(page)) == bool(said)


def test_a_page_that_is_cut_off_is_damaged_and_a_missing_one_is_not(tmp_path):
    page = tmp_path / "coin.ipynb"
    assert provenance.damage(page) == ""
    page.write_text('{"cells": [')
    assert f"notebook {page} cannot be read" in provenance.damage(page)
    assert provenance.problems(page, "smoke") == [provenance.damage(page)]


def test_in_another_checkout_than_the_librarys_nothing_is_done(monkeypatch, checkout):
    (checkout.root / "notebooks" / "deep").mkdir()
    monkeypatch.chdir(checkout.root / "notebooks" / "deep")
    with pytest.raises(InputError) as caught:
        provenance.checkout()
    assert str(checkout.root) in str(caught.value)
    assert "`make` renews it" in str(caught.value)


def test_only_chapters_that_can_use_a_gpu_are_stamped_with_it(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100")

    def device(name):
        settings = registry.load(name, "smoke")
        return provenance.stamp(settings, given={}, sources={}, seconds=1.0)["device"]

    assert device("inpaint") == "NVIDIA H100"
    assert device("theorem_3_1").startswith("CPU, ")


def test_outside_a_checkout_the_missing_notebooks_are_named(monkeypatch, tmp_path):
    library = tmp_path / "site-packages" / "stochrestore"
    monkeypatch.setattr(provenance, "__file__", str(library / "provenance.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"notebooks: none beside the library.*checkout"):
        provenance.checkout()


def test_the_package_itself_imports_nothing_heavy():
    script = (
        "import sys, stochrestore; print([m for m in sys.modules if 'torch' in m or 'np' in m])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_chapter_that_borrows_weights_names_them():
    """The chapter on the Lipschitz constant shows the networks of the toy trade-off."""
    borrowed = "src/stochrestore/weights/toy_tradeoff/erratic_gan-seed0.safetensors"
    assert borrowed in provenance.sources("lipschitz", "smoke")
    assert borrowed not in provenance.sources("appendix_c", "smoke")


def test_a_chapter_that_borrows_settings_names_them():
    """The chapter on families measures as the image chapters do, with their settings."""
    named = provenance.sources("families", "smoke")
    for lender in ("inpaint", "sr_scaling", "toy_tradeoff"):
        assert f"src/stochrestore/presets/smoke.yaml#{lender}" in named
