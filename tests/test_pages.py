"""The built pages in a browser: no network, formulas set, nothing wider than the screen."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

HTML = Path(__file__).parents[1] / "_build" / "html"
PAGES = ("book/intro", "book/executed/toy_tradeoff", "book/executed/claims", "book/reading")
SCREENS = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable, "the page tests need chromium on the PATH"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("page_name", PAGES)
def test_page_reads_offline(browser, page_name, screen, scheme):
    width, height = SCREENS[screen]
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=True
    )
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((HTML / f"{page_name}.html").as_uri(), wait_until="networkidle")
    outside = [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == []
    assert failed == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width + 1
    assert page.locator("h1:visible").count() >= 1
    raw = page.locator(".math.notranslate").all_inner_texts()
    assert not any("\\(" in text or "\\[" in text for text in raw)
    assert page.locator("article img:not([alt])").count() == 0
    page.close()


def test_figures_of_the_toy_chapter_have_descriptions(browser):
    page = browser.new_page()
    page.goto((HTML / "book/executed/toy_tradeoff.html").as_uri())
    described = page.locator("figure img").evaluate_all("all => all.map(i => i.alt.length)")
    assert len(described) == 4
    assert min(described) > 40
    page.close()


def test_flow_chart_links_lead_to_chapters(browser):
    page = browser.new_page()
    page.goto((HTML / "book/intro.html").as_uri())
    targets = page.locator("svg.flow a").evaluate_all("all => all.map(a => a.href.baseVal)")
    assert len(targets) >= 5
    for target in targets:
        file, _, anchor = target.partition("#")
        text = (HTML / "book" / file).read_text("utf-8")
        assert not anchor or f'id="{anchor}"' in text
    page.close()
