import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from docutils.core import publish_parts
from sphinx.ext.napoleon import GoogleDocstring

from stochrestore.figures import style

FOLDER = Path(__file__).parents[2] / "book" / "_ext"


def extension(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_line_of_an_attribute_is_no_type():
    lines = ["Pixels across, at most: of a picture.", "", "More."]
    named = {"what": "data", "name": "WIDTH"}
    assert ":type: Pixels" in str(GoogleDocstring(list(lines), **named))  # why it is needed
    extension("whole_attributes").begin_with_nothing(None, "data", "", None, None, lines)
    shown = str(GoogleDocstring(lines, **named))
    assert "Pixels across, at most: of a picture.\n\nMore." in shown
    assert ":type:" not in shown
    assert publish_parts(shown, writer_name="html")["body"].startswith("<p>Pixels across")


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


def launched(tmp_path, settings):
    """The header's buttons of a chapter of a book with these settings."""
    (tmp_path / "_config.yml").write_text(settings)
    colab = {"url": "https://colab/github/o/n/blob/main/book/executed/toy.ipynb", "text": "Colab"}
    download = {"url": "../../_sources/book/executed/toy.ipynb"}
    groups = [
        {"type": "group", "label": "launch-buttons", "buttons": [colab]},
        {"type": "group", "label": "download-buttons", "buttons": [download]},
        {"type": "x"},
    ]
    context = {"header_buttons": groups}
    app = SimpleNamespace(srcdir=str(tmp_path))
    extension("launch_sources").open_source(app, "", "", context, None)
    assert download["url"] == "../../_sources/book/executed/toy.ipynb"
    return context["header_buttons"]


def test_launch_buttons_open_the_source_of_a_chapter(tmp_path):
    launch, *others = launched(tmp_path, "repository: {url: https://github.com/o/n}")
    url = "https://colab/github/o/n/blob/main/notebooks/toy.ipynb"
    assert [button["url"] for button in launch["buttons"]] == [url]
    assert len(others) == 2


def test_without_an_address_there_is_no_launch_button(tmp_path):
    """They would lead to the repository of Jupyter Book."""
    labels = [group.get("label") for group in launched(tmp_path, "title: a book")]
    assert labels == ["download-buttons", None]


TABLE = """<table class="dataframe"><thead><tr><th></th><th colspan="2">PSNR</th></tr>
<tr><th></th><th>EDSR</th><th>a &amp; b</th></tr></thead>
<tbody><tr><th>row</th><td>1</td><td><b>2</b></td></tr></tbody></table>"""


def test_each_cell_knows_the_head_of_its_column():
    context = {"body": TABLE + "<table><tr><td>no head</td></tr></table>"}
    for _ in range(2):
        extension("screens").label_cells(None, "", "", context, None)
    assert '<th data-label="">row</th>' in context["body"]
    assert '<td data-label="PSNR EDSR">1</td>' in context["body"]
    assert '<td data-label="PSNR a &amp; b"><b>2</b></td>' in context["body"]
    assert "<td>no head</td>" in context["body"]


def test_a_formula_in_the_head_of_a_column_is_drawn_in_its_cells():
    head = r'<span class="math notranslate nohighlight">\(z&lt;1\)</span>'
    table = TABLE.replace("EDSR", head)
    context = {"body": table}
    for _ in range(2):
        extension("screens").label_cells(None, "", "", context, None)
    inside = r'<td data-label=""><span class="head math">PSNR \(z&lt;1\)</span>1</td>'
    assert inside in context["body"]


def picture(*columns, width=1000):
    """White, with black columns at these places, in shares of the width."""
    pixels = np.full((10, width, 4), 255, np.uint8)
    for left, right in columns:
        pixels[:, int(left * width) : int(right * width), :3] = 0
    return pixels


def test_wide_pictures_are_cut_where_they_are_empty():
    parts = extension("screens").parts
    ((_, cut), (again, _)) = parts(picture((0.0, 0.45), (0.5, 1.0)))
    assert cut == again
    assert 0.45 < cut < 0.5
    thirds = parts(picture((0.0, 0.3), (0.35, 0.65), (0.7, 1.0)))
    assert [left for left, _ in thirds] == pytest.approx([0.0, 0.325, 0.675], abs=0.01)
    assert parts(picture((0.0, 1.0))) == []
    assert parts(picture((0.0, 0.2), (0.3, 1.0))) == []  # no cut would help
    assert parts(picture((0.0, 0.45), (0.5, 1.0), width=400)) == []


def test_numbers_beside_a_panel_stay_with_it():
    pixels = np.full((200, 1000, 4), 255, np.uint8)
    for left, right, low in ((0, 440, 200), (480, 500, 12), (540, 1000, 200)):
        pixels[:low, left:right, :3] = 0  # a panel, numbers, the panel that they belong to
    ((_, cut), _) = extension("screens").parts(pixels)
    assert 0.44 < cut < 0.48


def test_a_legend_above_is_cut_between_its_columns_and_the_panels_before_their_labels():
    """Below the panels it fills the space between them, and a label stays with the wrong one."""
    figure, axes = style.panels(1, 2, (style.WIDTH, 3.0), dpi=110)
    for axis in axes.flat:
        for place in range(12):
            axis.plot([0, 1], [place, place], "-o", ms=4.5, label=f"estimator number {place}")
        axis.set(ylabel="FID", xlim=(0, 1))
    style.legend_above(figure, columns=4)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    screens = extension("screens")
    above, below = screens.sheets(pixels)
    names, shown = (
        [round(right * pixels.shape[1]) for _, right, *_ in screens._boxes(pixels, sheet)]
        for sheet in (above, below)
    )
    (legend,) = figure.legends
    ends = [text.get_window_extent() for text in legend.get_texts()]
    assert len(names) == 2
    assert all(end.x1 < names[0] or end.x0 > names[0] for end in ends)
    left, right = (axis.get_tightbbox() for axis in axes.flat)
    assert left.x1 <= shown[0] <= right.x0


def test_each_sheet_of_images_is_cut_on_its_own():
    screens = extension("screens")
    pixels = np.zeros((300, 1000, 4), np.uint8)
    for top, columns in ((0, (0, 340, 680)), (200, (0, 340))):
        for left in columns:
            pixels[top : top + 100, left : left + 300, 3] = 255
    assert [top for top, _ in screens.sheets(pixels)] == [0, 199]
    above, below = ([box[:2] for box in screens._boxes(pixels, s)] for s in screens.sheets(pixels))
    assert len(above) == 3
    assert below[-1][1] < 0.7  # nothing is shown beyond its second image
    pixels[200:, 300:] = 0
    (whole,) = screens._boxes(pixels, (199, 300))
    assert whole[:2] == (0.0, 0.303)  # nor beside an only one: all parts are as large as can be


def test_a_caption_and_a_theorem_bear_the_number_of_the_paper_only():
    caption = '<span class="caption-number">Fig. 4 </span><span class="caption-text">{}</span>'
    theorem = '<span class="caption-number">Theorem 1 </span> (Theorem 3.1 of the paper)'
    context = {"body": caption.format("After Figure 1") + caption.format("Bits") + theorem}
    extension("screens").one_number(None, "", "", context, None)
    assert context["body"] == (
        '<span class="caption-text">After Figure 1</span>'
        + caption.format("Bits")
        + '<span class="caption-number">Theorem 3.1</span>'
    )


def test_the_keyboard_may_skip_to_figures_that_change():
    context = {"body": '<figure class="picture-browser photographs" id="a-browser">'}
    extension("screens").skip_to_figures(None, "", "", context, None)
    assert '<a class="skip-to-figure" href="#a-browser">' in context["body"]


def test_a_number_stays_in_one_line_with_its_unit():
    code = "<pre><span>7 % 3</span></pre> <code>7 % 3</code>"
    context = {"body": f"95 % of 3 dBm, at 34 dB. {code}"}
    extension("screens").keep_units(None, "", "", context, None)
    assert context["body"] == f"95\N{NO-BREAK SPACE}% of 3 dBm, at 34\N{NO-BREAK SPACE}dB. {code}"


def test_a_formula_and_the_marks_around_it_stay_in_one_line():
    formula = r'<span class="math notranslate nohighlight">\(x\)</span>'
    context = {"body": f"a {formula} b ({formula}), c"}
    extension("screens").keep_marks(None, "", "", context, None)
    assert context["body"] == f'a {formula} b <span class="unbroken">({formula}),</span> c'
