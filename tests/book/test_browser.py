"""Every built page in a browser: it stands alone, fits the screen, and is accessible."""

import functools
import gzip
import re
import shutil
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import TimeoutError, sync_playwright

from stochrestore.figures.interactive import Frame, PictureBrowser, zigzag_browser
from stochrestore.figures.neighbours import neighbours_browser

HTML = Path(__file__).parents[2] / "_build" / "html"
LISTINGS = HTML / "_modules"  # of the library's code, all alike: one is looked at
LARGEST = 3_000_000  # bytes a page, compressed as web servers do
BEFORE_PAINT = 170_000  # of style sheets and scripts that the first paint waits for, likewise
COMPRESSED = {".html", ".js", ".css", ".svg", ".json"}
AXE_OPTIONS = {
    "resultTypes": ["violations"],
    "preload": False,  # it would fetch style sheets again, from wrong addresses
}
# axe-core takes seconds over thousands of like parts; the first of each kind stand for all.
SHORTEN = """() => {
    const cut = (parts, kept) => [...document.querySelectorAll(parts)].slice(kept)
        .forEach(part => part.remove());
    cut("article mjx-container", 2);
    cut("article div.highlight", 3);
    cut("article table tr", 30);
    cut("article li", 60);
    if (document.body.innerText.length > 60000) cut("article section section", 6);
}"""
# The theme lets what scrolls take the focus, a moment after the screen has changed.
WHAT_SCROLLS_TAKES_FOCUS = """() =>
    [...document.querySelectorAll("pre, .pst-scrollable-table-container")]
    .every(e => e.scrollWidth <= e.clientWidth || e.tabIndex === 0)"""
# Tables written in Markdown; those of pandas leave the head above their index empty.
HEADLESS = """() => [...document.querySelectorAll("article table.table thead th")]
    .filter(head => !head.textContent.trim()).map(head => head.parentElement.textContent)"""
SETTLED = "() => !window.MathJax?.startup || MathJax.startup.promise.then(() => true)"


def _pages():
    every = sorted(path for path in HTML.rglob("*.html") if "_static" not in path.parts)
    listing = [path for path in every if path.is_relative_to(LISTINGS)]
    shortest = sorted(listing, key=lambda path: path.stat().st_size)
    left_out = {*shortest[1:], HTML / "index.html"}  # the latter leads on to the introduction
    return [path.relative_to(HTML).as_posix() for path in every if path not in left_out]


PAGES = _pages()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    """Serve the book on this machine, since only a server shows what leaves its host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(HTML)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "the page tests need chromium on the PATH"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context()
    context.set_default_timeout(120_000)  # milliseconds; machines may be busy
    yield context
    context.close()


@pytest.fixture
def page(context):
    page = context.new_page()
    page.asked, page.wrong = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("requestfailed", lambda request: page.wrong.append(request.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("response", lambda r: page.wrong.append(r.url) if r.status >= 400 else None)
    page.on(
        "console",
        lambda m: page.wrong.append(m.text) if m.type in {"error", "warning"} else None,
    )
    yield page
    page.close()


def test_there_are_pages():
    assert len(PAGES) >= 10


@pytest.mark.parametrize("name", PAGES)
def test_page(page, site, name):
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(site + name, wait_until="load")
    page.evaluate(SETTLED)
    assert [url for url in page.asked if not url.startswith((site, "data:", "blob:"))] == []
    assert page.wrong == []
    missing = "() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 99))"
    page.evaluate("() => document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert page.evaluate(missing) == []
    assert page.locator("article img:not([alt])").count() == 0
    assert page.evaluate(HEADLESS) == []
    assert page.evaluate("() => document.body.innerText.search(/\\\\[(\\[]/)") == -1  # TeX, unset
    assert _transferred(site, page.asked) <= LARGEST
    assert _too_wide(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert _too_wide(page) == []
    page.wait_for_function(WHAT_SCROLLS_TAKES_FOCUS, timeout=60_000)
    page.evaluate(SHORTEN)
    assert _findings(page) == []
    page.emulate_media(color_scheme="dark")  # where colours differ, and nothing else
    assert _findings(page, runOnly={"type": "rule", "values": ["color-contrast"]}) == []


# What a reader must see without scrolling: tables, formulas, and code that is not folded.
HIDDEN = """(kinds) => [...document.querySelectorAll(kinds)]
    .filter(part => part.offsetParent && !part.closest("details:not([open])"))
    .filter(part => {
        for (let box = part; box && box.tagName !== "ARTICLE"; box = box.parentElement)
            if (box.scrollWidth > box.clientWidth + 1
                && getComputedStyle(box).overflowX !== "visible"
                && getComputedStyle(box).display !== "inline") return true;
        return false;
    }).map(part => `${part.tagName} ${part.className} ${part.innerText.slice(0, 80)}`)"""
TABLES = "article table, article mjx-container[display='true'], article svg.flow, article figure"
CHAPTERS = [name for name in PAGES if name.startswith("book/") and name != "book/api.html"]


# Of formulas within a line.
BEYOND = """() => [...document.querySelectorAll("article mjx-container")].filter(formula => {
    const { width, right } = formula.firstElementChild.getBoundingClientRect();
    return width && right > innerWidth;
}).map(formula => formula.textContent.slice(0, 80))"""
# Of formulas that were set smaller so that all of them is seen, those that nobody can read.
TINY = """() => [...document.querySelectorAll("article mjx-container")].filter(formula =>
    formula.getBoundingClientRect().width && parseFloat(getComputedStyle(formula).fontSize) < 11.5
).map(formula => formula.textContent.slice(0, 80))"""


@pytest.mark.parametrize("name", CHAPTERS)
def test_nothing_that_matters_is_hidden(page, site, name):
    page.goto(site + name, wait_until="load")
    page.evaluate(SETTLED)
    for width, kinds in ((1300, f"{TABLES}, article pre"), (390, TABLES)):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("() => new Promise(done => setTimeout(done, 300))")
        assert page.evaluate(HIDDEN, kinds) == [], width
    assert page.evaluate(BEYOND) == []
    assert page.evaluate(TINY) == []


def test_formulas_of_the_library_can_be_read(page, site):
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{site}book/api.html", wait_until="load")
    page.evaluate(SETTLED)
    page.evaluate("() => new Promise(done => setTimeout(done, 300))")
    assert page.evaluate(TINY) == []


# Every figure of a page, or part of one: its file, and pixels on the screen for one of the file.
SCALES = """() => [...document.querySelectorAll("article figure img, article figure .part")]
    .filter(picture => !picture.closest(".picture-browser, .sd-card"))
    .filter(picture => picture.className.includes("part") || !picture.closest(".parts"))
    .map(picture => {
        const image = picture.closest(".parts")?.querySelector("img") ?? picture;
        const whole = parseFloat(picture.style.backgroundSize || "100%") / 100;
        const width = picture.getBoundingClientRect().width * whole;
        return [image.src.split("/").pop(), width / image.naturalWidth];
    })"""
PER_INCH = 72  # pixels; a letter of nine points has nine then


@pytest.mark.parametrize("name", [name for name in CHAPTERS if "/executed/" in name])
def test_letters_in_figures_can_be_read_on_a_phone(page, site, name):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site + name, wait_until="load")
    page.evaluate("() => document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    small = {
        file: round(scale * Image.open(HTML / "_images" / unquote(file)).info["dpi"][0])
        for file, scale in page.evaluate(SCALES)
        if scale * Image.open(HTML / "_images" / unquote(file)).info["dpi"][0] < PER_INCH
    }
    assert small == {}


def test_photographs_keep_their_colours_in_the_dark_and_plots_do_not_glare(page, site):
    page.emulate_media(color_scheme="dark")
    page.goto(f"{site}book/executed/inpaint.html", wait_until="load")
    filters = """kind => [...document.querySelectorAll(kind)]
        .map(image => getComputedStyle(image).filter)"""
    assert set(page.evaluate(filters, "article img.photographs")) == {"none"}
    assert all("invert" in how for how in page.evaluate(filters, "article img.plot"))


def test_a_phone_shows_the_verdict_first_and_all_parts_of_a_figure(page, site):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{site}book/executed/results.html", wait_until="load")
    tops = (
        page.locator("table.claims tbody tr")
        .first.locator("td")
        .evaluate_all(
            "cells => cells.map(cell => [cell.className, cell.getBoundingClientRect().top])"
        )
    )
    assert min(tops, key=lambda cell: cell[1])[0] == "verdict"
    page.goto(f"{site}book/executed/inpaint.html", wait_until="load")
    parts = page.locator("figure#fig-inpaint-clothes .part")
    tops = parts.evaluate_all("all => all.map(part => part.getBoundingClientRect().top)")
    assert len(tops) >= 2
    assert tops == sorted(set(tops))


# What a reader looks for: the words that the page must show, and the page, or its place.
WANTED = {
    "R̃": ("glossary.html", "shared seed|same seed"),
    "attack my model": ("own_model.html", "Attack it"),
    "SRFlow weights": ("srflow_robustness.html", "pretrained_models.zip"),
    "λ_R = 500": ("reading.html", "sum or a mean"),
    "size of the U-Net": ("inpaint.html", "U-Net of Figure 7"),
    "install": ("install.html", "pip install"),
    "cite": ("cite.html", "@inproceedings"),
    "Table 1": ("inpaint.html", "Table 1"),
    "what is new": ("appendix_c.html", "What is new"),
    "what failed": ("results.html", "not reproduced"),
}


@pytest.mark.parametrize("wanted", WANTED)
def test_what_a_reader_looks_for_is_two_clicks_away(page, site, wanted):
    target, words = WANTED[wanted]
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{site}book/intro.html", wait_until="load")
    links = page.locator("article a, nav.bd-links a").evaluate_all(
        "all => all.filter(a => a.offsetParent).map(a => a.href || '')"
    )
    near = {link.partition("#")[0] for link in links if link.startswith(site)}
    goal = next((link for link in near if link.endswith(f"/{target}")), None)
    assert goal, f"{wanted}: no link to {target} on the front page"
    page.locator(f"article a[href*='{target}'], nav.bd-links a[href*='{target}']").first.click()
    page.wait_for_url(re.compile(re.escape(target)))
    assert re.search(words, page.locator("article").inner_text())


def _too_wide(page):
    """What reaches beyond the screen, once the page has settled at its width."""
    try:
        fits = "document.documentElement.scrollWidth <= innerWidth"
        page.wait_for_function(fits, timeout=60_000)
    except TimeoutError:
        return page.evaluate(
            "() => [...document.querySelectorAll('main *')]"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
            ".slice(0, 5).map(e => e.outerHTML.slice(0, 120))"
        )
    return []


def _findings(page, **options):
    """What axe-core calls serious or critical."""
    violations = Axe().run(page, options=AXE_OPTIONS | options).response["violations"]
    return [
        f"{v['id']}: {v['help']}: {node['html'][:160]}"
        for v in violations
        if v["impact"] in {"serious", "critical"}
        for node in v["nodes"][:3]
    ]


def _transferred(site, urls):
    return sum(_size(urlsplit(url).path) for url in {urldefrag(u).url for u in urls if site in u})


@functools.cache
def _size(path):
    file = HTML / unquote(path).lstrip("/")
    content = file.read_bytes()
    return len(gzip.compress(content, 6) if file.suffix in COMPRESSED else content)


class _Blocking(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.urls = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        waits = tag == "script" and not given.keys() & {"defer", "async"}
        style = tag == "link" and given.get("rel") == "stylesheet" and given.get("media") != "print"
        if url := given.get("src" if waits else "href") if waits or style else None:
            self.urls.append(url)


@pytest.mark.parametrize("name", PAGES)
def test_little_comes_before_the_first_paint(name):
    urls = _Blocking((HTML / name).read_text("utf-8")).urls
    files = {urljoin(f"/{name}", urlsplit(url).path) for url in urls}
    assert [file for file in files if file.endswith(".js")] == ["/_static/documentation_options.js"]
    assert sum(map(_size, files)) <= BEFORE_PAINT


class _Anchors(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names |= {given.get("id"), given.get("name")}
        if tag == "a" and (link := given.get("href") or given.get("xlink:href")):
            self.links.append(link)


@functools.cache
def _anchors(path):
    return _Anchors(path.read_text("utf-8"))


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_book_lead_somewhere(name):
    broken = []
    for link in _anchors(HTML / name).links:
        if re.match(r"[a-z+]+:", link):
            continue
        path, _, anchor = urljoin(f"/{name}", link).partition("#")
        target = HTML / unquote(path.partition("?")[0]).lstrip("/")
        if target.is_dir():
            target /= "index.html"
        named = not anchor or target.suffix != ".html"
        if not (target.exists() and (named or unquote(anchor) in _anchors(target).names)):
            broken.append(link)
    assert broken == []


def test_every_figure_is_described():
    for name in [name for name in PAGES if name.startswith("book/")]:
        for figure in re.findall(r"<figure.*?</figure>", (HTML / name).read_text("utf-8"), re.S):
            for alt in re.findall(r'<img[^>]*?\balt="([^"]*)"', figure):
                assert len(alt) > 20, f"{name}: {alt!r}"


def test_each_word_of_the_glossary_is_explained():
    (words,) = re.findall(
        r'<dl class="[^"]*glossary.*?</dl>', (HTML / "book/glossary.html").read_text("utf-8"), re.S
    )
    assert words.count("<dt") == words.count("<dd") >= 15


def test_the_flow_chart_leads_to_chapters(page, site):
    page.goto(f"{site}book/intro.html")
    targets = page.locator("svg.flow a").evaluate_all("all => all.map(a => a.href.baseVal)")
    assert len(targets) >= 5
    assert set(targets) <= set(_anchors(HTML / "book/intro.html").links)  # which are checked


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_picture_is_chosen_with_the_keyboard(browser, scripts):
    pixel = b"RIFF"  # whether it can be drawn is not the question
    frames = {
        (a, b): Frame({f"alt {a}{b}": pixel}, f"text {a}{b}") for a in range(3) for b in range(2)
    }
    choices = {"first": ["x", "y", "z"], "second": ["0", "1"]}
    figure = PictureBrowser("figure", choices, frames, (1, 0))
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.set_content(f"<main>{figure._repr_html_()}</main>")

    def seen():
        texts = page.locator(".frame p")
        return [texts.nth(i).inner_text() for i in range(6) if texts.nth(i).is_visible()]

    assert seen() == ["text 10"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert seen() == ["text 20"]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert seen() == ["text 21"]
    page.emulate_media(media="print")
    assert seen() == ["text 10"]
    assert page.locator("fieldset:visible").count() == 0
    context.close()


@pytest.mark.parametrize(
    ("width", "figure", "lines"),
    [
        (1000, zigzag_browser((1, 2)), 1),
        (390, zigzag_browser((1, 2)), 2),
        (1000, neighbours_browser((1, 2)), 1),
        (390, neighbours_browser((1, 2)), 2),
    ],
)
def test_panels_stand_below_each_other_where_letters_would_be_too_small(
    browser, width, figure, lines
):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_content(f"<main>{figure._repr_html_()}</main>")
    shown = page.locator(".frame:visible img")
    boxes = [shown.nth(i).bounding_box() for i in range(shown.count())]
    assert len({round(box["y"]) for box in boxes}) == lines
    inches = [i.evaluate("image => image.naturalWidth") / 150 for i in shown.all()]
    letters = [9 / 72 * box["width"] / inch for box, inch in zip(boxes, inches, strict=True)]
    assert min(letters) >= 9  # pixels; 9 points are the smallest
    page.close()


@pytest.mark.parametrize("term", ["citation", "λ_R", "SRFlow"])
def test_search_leads_to_a_page_of_text_before_the_library(page, site, term):
    page.goto(f"{site}search.html?q={quote(term)}", wait_until="load")
    first = page.locator("#search-results ul.search li a").first
    first.wait_for(timeout=60_000)
    assert "/api.html" not in first.evaluate("link => link.href")


@pytest.mark.parametrize(
    "term", ["recall", "zigzag", "posterior sampler", "robustness", "Wasserstein"]
)
def test_search_finds_the_terms_of_the_paper(page, site, term):
    page.goto(f"{site}search.html?q={quote(term)}", wait_until="load")
    page.locator("#search-results ul.search li a").first.wait_for(timeout=60_000)
    assert page.locator("#search-results ul.search li a").count() >= 3


@pytest.mark.parametrize("term", ["recall", "torch", "seed"])
def test_search_shows_text_and_no_code(page, site, term):
    page.goto(f"{site}search.html?q={quote(term)}", wait_until="load")
    shown = page.locator("#search-results p.context")
    shown.first.wait_for(timeout=60_000)
    for text in shown.all_inner_texts():
        assert not re.search(
            r"(Show|Hide) code cell|^(\.\.\.)?\s*(\.ipynb|\.md) \.pdf|# type: ", text
        ), text
