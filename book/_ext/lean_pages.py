"""Makes pages smaller, and usable without a mouse, than the theme leaves them."""

import re
from pathlib import Path

# Results scroll inside themselves on narrow screens: a keyboard must reach them.
SCROLLS = re.compile(
    r'<(?:table (?:border="1" )?class="(?:dataframe|claims table)"|figure class="align-default")'
    r"(?! tabindex)"
)
# docutils calls a bibliography a list whose entries are no list items.
CITATIONS = '<div role="list" class="citation-list">'
# What unfolds a part of the contents has an icon and no words.
UNFOLDS = '<summary><span class="toctree-toggle"'
# 1.5 MB that redraw icons which the style sheet draws already.
ICONS = re.compile(r'\s*<script defer src="[^"]*scripts/fontawesome\.js[^"]*"></script>')
# A page is drawn once these have come, though only its options are needed while it is read.
BLOCKING = re.compile(
    r"<script (?![^>]*\b(?:defer|async)\b)"
    r'(?=[^>]*\bsrc="(?![^"]*documentation_options\.js))'
)


def drop_thebe(app, pagename, templatename, context, doctree):
    """Take the scripts of live code out: they need a server, and are declared twice."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]


def reach_by_keyboard(app, pagename, templatename, context, doctree):
    """Let tables and figures that scroll take the focus, and name the bibliography rightly."""
    body = context.get("body", "")
    body = SCROLLS.sub(lambda match: f'{match[0]} tabindex="0"', body)
    context["body"] = body.replace(CITATIONS, '<div class="citation-list">')


def draw_before_scripts(app, exception):
    """Take the icons' script out of the pages, and let the others wait; the theme has no hook."""
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text("utf-8")
            leaner = BLOCKING.sub("<script defer ", ICONS.sub("", text))
            leaner = leaner.replace(UNFOLDS, UNFOLDS.replace(">", ' aria-label="pages below">', 1))
            if leaner != text:
                page.write_text(leaner, "utf-8")


def setup(app):
    """Called by Sphinx; after all that add scripts."""
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", reach_by_keyboard, priority=900)
    app.connect("build-finished", draw_before_scripts)
    return {"parallel_read_safe": True}
