"""Prints the built book to one PDF, with Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import yaml

from stochrestore.errors import require

LEFT_OUT = ("book/api",)  # hundreds of pages, to be looked up rather than read
_ARTICLE = re.compile(r"<article class=\"bd-article\">(.*?)</article>", re.DOTALL)
_HREF = re.compile(r'href="([^"]*)"')
_ID = re.compile(r'\bid="([^"]+)"')
_SOURCE = re.compile(r'\bsrc="(?!data:)([^"]+)"')
_STYLE = """
article > section.chapter { break-before: page; }
article > section.chapter:first-of-type { break-before: auto; }
article h1 { display: block !important; }
#jb-print-docs-body { display: none !important; }
figure, tr, div.cell_input, .picture-browser, .sd-card { break-inside: avoid; }
:is(h1, h2, h3) { break-after: avoid; }
pre { white-space: pre-wrap !important; }
a.headerlink, .copybtn, details.hide { display: none !important; }
"""


def chapters(toc: Path) -> list[str]:
    """The pages that ``_toc.yml`` lists, in its order, without those of :data:`LEFT_OUT`."""
    content = yaml.safe_load(toc.read_text("utf-8"))
    parts = content.get("parts", [content])
    listed = [chapter["file"] for part in parts for chapter in part.get("chapters", [])]
    return [name for name in (content["root"], *listed) if name not in LEFT_OUT]


def combined(html: Path, names: Sequence[str]) -> str:
    """All articles of a built book in one text, with links from one article to the other.

    Args:
        html: folder of the built pages.
        names: the pages, without ``.html``.
    """
    articles = {}
    for name in names:
        match = _ARTICLE.search((html / f"{name}.html").read_text("utf-8"))
        require(match is not None, "page", name, "one with an article, built by jupyter-book")
        articles[name] = match[1] if match else ""
    return "\n".join(_section(name, articles, html) for name in names)


def _section(name: str, articles: Mapping[str, str], html: Path) -> str:
    """One article, with ids that are unique in the book and addresses that hold anywhere."""

    def link(match: re.Match[str]) -> str:
        if re.match(r"[a-z+]+:", match[1]):
            return match[0]
        page, _, anchor = urljoin(f"/{name}.html", match[1]).lstrip("/").partition("#")
        target = page.removesuffix(".html")
        if target not in articles:
            return ""  # not in the PDF
        return f'href="#{_slug(target, unquote(anchor))}"'

    def identity(match: re.Match[str]) -> str:
        wanted = match[1] in _targets(name, articles)
        return f'id="{_slug(name, match[1])}"' if wanted else match[0]

    def source(match: re.Match[str]) -> str:
        path = urljoin(f"/{name}.html", match[1]).lstrip("/").partition("?")[0]
        return f'src="{(html / unquote(path)).resolve().as_uri()}"'

    # Ids that nothing links to stay: style sheets may know them.
    text = _SOURCE.sub(source, _HREF.sub(link, _ID.sub(identity, articles[name])))
    return f'<section class="chapter" id="{_slug(name)}">{text}</section>'


def _targets(name: str, articles: Mapping[str, str]) -> set[str]:
    """Anchors of a page that some page links to."""
    found = set()
    for other, text in articles.items():
        for href in _HREF.findall(text):
            page, _, anchor = urljoin(f"/{other}.html", href).lstrip("/").partition("#")
            if page == f"{name}.html" and anchor:
                found.add(unquote(anchor))
    return found


def _slug(name: str, anchor: str = "") -> str:
    return f"{name.replace('/', '-')}--{anchor}"


def write(html: Path, toc: Path, output: Path) -> Path:
    """Print a built book.

    Args:
        html: folder of the built pages.
        toc: its ``_toc.yml``.
        output: the PDF.

    Raises:
        InputError: the book is not built, or Chromium is not there.
    """
    from playwright.sync_api import sync_playwright

    names = chapters(toc)
    first = html / f"{names[0]}.html"
    require(first.is_file(), "built pages", str(html), "a folder that `make book` has filled")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    require(chromium is not None, "browser", chromium, "chromium or google-chrome on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(600_000)  # milliseconds; the whole book is typeset at once
        page.goto(first.resolve().as_uri())
        page.add_style_tag(content=_STYLE)
        page.evaluate(_FILL, combined(html, names))
        page.wait_for_function("() => [...document.images].every(image => image.complete)")
        page.pdf(path=output, **_LAYOUT)
        browser.close()
    return output


_FILL = """async html => {
    document.querySelector("article").innerHTML = html;
    document.querySelectorAll("img").forEach(image => { image.loading = "eager"; });
    // Paper has no clicks: what is folded is open (provenance), or left out (cells, by _STYLE).
    document.querySelectorAll("details").forEach(fold => { fold.open = true; });
    if (window.MathJax?.typesetPromise) {
        MathJax.texReset?.();
        await MathJax.typesetPromise();
    }
}"""
_LAYOUT: dict[str, Any] = {
    "format": "A4",
    "scale": 0.8,
    "margin": dict.fromkeys(("top", "right", "bottom", "left"), "16mm"),
    "print_background": True,
    "outline": True,
    "tagged": True,
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": (
        '<div style="font-size:8px;width:100%;text-align:center">'
        '<span class="pageNumber"></span></div>'
    ),
}
