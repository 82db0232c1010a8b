import re

import pytest

from stochrestore.book import pdf
from stochrestore.errors import InputError

TOC = """
format: jb-book
root: book/intro
parts:
  - caption: One
    chapters: [{file: book/executed/toy}, {file: book/api}]
"""
PAGES = {
    "book/intro": """<h1 id="top">Intro</h1><img src="../_images/a.png">
        <a href="executed/toy.html#part">part</a> <a href="executed/toy.html">toy</a>
        <a href="api.html#f">code</a> <a href="https://example.org/x">away</a>""",
    "book/executed/toy": """<h1 id="top">Toy</h1><h2 id="part">Part</h2><p id="own">kept</p>
        <a href="#top">up</a> <img src="data:image/png;base64,AAAA">""",
}


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_toc.yml").write_text(TOC)
    for name, article in PAGES.items():
        path = tmp_path / "html" / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<!doctype html><html lang="en"><title>t</title><nav>side</nav>'
            f'<article class="bd-article">{article}</article></html>'
        )
    return tmp_path


def test_chapters_are_those_of_the_contents_but_for_the_reference(site):
    assert pdf.chapters(site / "_toc.yml") == ["book/intro", "book/executed/toy"]


def test_articles_are_joined_and_lead_to_each_other(site):
    text = pdf.combined(site / "html", list(PAGES))
    assert "side" not in text
    assert text.index("Intro") < text.index("Toy")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    linked = re.findall(r'href="#([^"]+)"', text)
    assert len(linked) == 3
    assert set(linked) <= set(ids)
    assert 'id="own"' in text  # a style sheet may know it
    assert "api.html" not in text
    assert 'href="https://example.org/x"' in text
    assert f'src="{(site / "html" / "_images" / "a.png").as_uri()}"' in text
    assert 'src="data:image/png;base64,AAAA"' in text


def test_a_pdf_is_printed_with_a_page_a_chapter(site):
    output = pdf.write(site / "html", site / "_toc.yml", site / "book.pdf")
    content = output.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 2
    assert b"/Outlines" in content


@pytest.mark.parametrize(("kind", "pages"), [("sd-dropdown", 3), ("admonition hide", 2)])
def test_paper_shows_what_is_folded_but_hidden_cells(site, kind, pages):
    path = site / "html" / "book" / "executed" / "toy.html"
    folded = f"""<details class="{kind}"><summary>more</summary>
        <p style="break-before: page">on a page of its own</p></details></article>"""
    path.write_text(path.read_text().replace("</article>", folded))
    output = pdf.write(site / "html", site / "_toc.yml", site / "book.pdf")
    assert len(re.findall(rb"/Type\s*/Page\b", output.read_bytes())) == pages


def test_without_a_book_or_a_browser_the_reason_is_said(site, monkeypatch):
    with pytest.raises(InputError, match="make book"):
        pdf.write(site / "nothing", site / "_toc.yml", site / "book.pdf")
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(InputError, match="chromium"):
        pdf.write(site / "html", site / "_toc.yml", site / "book.pdf")
