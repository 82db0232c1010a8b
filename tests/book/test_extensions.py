import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / "book" / "_ext"


def extension(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "linked"),
    [
        ("R̃ of Eq. 7 (Eq. 3 for", "R̃ of :ref:`Eq. 7 <eq-7>` (:ref:`Eq. 3 <eq-3>` for"),
        ("its input: Eq. 2–7.", "its input: :ref:`Eq. 2 <eq-2>`–7."),
        ("``Eq. 7`` and :math:`Eq. 7`", "``Eq. 7`` and :math:`Eq. 7`"),
        ("Sec. 7, Eqs", "Sec. 7, Eqs"),
    ],
)
def test_equations_in_docstrings_become_links(line, linked):
    lines = [line, ".. math::", "", "   x \\text{ Eq. 7}", "", line]
    extension("equation_links").link_equations(None, "", "", None, None, lines)
    assert lines == [linked, ".. math::", "", "   x \\text{ Eq. 7}", "", linked]


def test_what_scrolls_takes_the_focus_once():
    pages = extension("lean_pages")
    table = '<table border="1" class="dataframe"><tr></tr></table>'
    figure = '<figure class="align-default" id="fig"></figure>'
    plain = '<table class="plain"></table>'
    context = {"body": f'{table}<table class="claims table"></table>{plain}{figure}'}
    for _ in range(2):
        pages.reach_by_keyboard(None, "", "", context, None)
    assert context["body"].count('tabindex="0"') == 3
    assert '<table class="plain">' in context["body"]


def test_scripts_that_pages_do_not_need_are_left_out_and_others_wait(tmp_path):
    pages = extension("lean_pages")
    script = '<script defer src="_static/scripts/fontawesome.js?digest=1"></script>'
    page = tmp_path / "a" / "page.html"
    page.parent.mkdir()
    needed = '<script src="documentation_options.js"></script><script async src="a.js"></script>'
    page.write_text(f'<head>\n{script}{needed}<script id="b" src="other.js"></script></head>')
    app = SimpleNamespace(outdir=str(tmp_path), builder=SimpleNamespace(format="html"))
    pages.draw_before_scripts(app, RuntimeError("the build failed"))
    assert script in page.read_text()
    pages.draw_before_scripts(app, None)
    waiting = '<script defer id="b" src="other.js"></script>'
    assert page.read_text() == f"<head>{needed}{waiting}</head>"
    kept = SimpleNamespace(filename="mathjax.js", attributes={})
    thebe = SimpleNamespace(filename=None, attributes={"body": "initThebe()"})
    context = {"script_files": [kept, thebe]}
    pages.drop_thebe(None, "", "", context, None)
    assert context["script_files"] == [kept]


def test_launch_buttons_open_the_source_of_a_chapter():
    colab = {"url": "https://colab/github/o/n/blob/main/book/executed/toy.ipynb", "text": "Colab"}
    download = {"url": "../../_sources/book/executed/toy.ipynb"}
    context = {"header_buttons": [{"type": "group", "buttons": [colab, download]}, {"type": "x"}]}
    extension("launch_sources").open_source(None, "", "", context, None)
    assert colab["url"] == "https://colab/github/o/n/blob/main/notebooks/toy.ipynb"
    assert download["url"] == "../../_sources/book/executed/toy.ipynb"
