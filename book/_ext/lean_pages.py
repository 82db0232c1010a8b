"""Makes pages smaller, and usable without a mouse, than the theme leaves them."""

import re
from pathlib import Path

# Tables of results scroll inside themselves on narrow screens: a keyboard must reach them.
SCROLLS = re.compile(r'<table (?:border="1" )?class="(?:dataframe|claims table)"(?! tabindex)')
# docutils calls a bibliography a list whose entries are no list items.
CITATIONS = '<div role="list" class="citation-list">'
# 1.5 MB that redraw icons which the style sheet draws already.
ICONS = re.compile(r'\s*<script defer src="[^"]*scripts/fontawesome\.js[^"]*"></script>')


def drop_thebe(app, pagename, templatename, context, doctree):
    """Take the scripts of live code out: they need a server, and are declared twice."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]


def reach_by_keyboard(app, pagename, templatename, context, doctree):
    """Let tables that scroll take the focus, and name the bibliography for what it is."""
    body = context.get("body", "")
    body = SCROLLS.sub(lambda match: f'{match[0]} tabindex="0"', body)
    context["body"] = body.replace(CITATIONS, '<div class="citation-list">')


def drop_icon_script(app, exception):
    """Take the icons' script out of the pages; no hook of the theme leaves it out."""
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text("utf-8")
            leaner = ICONS.sub("", text)
            if leaner != text:
                page.write_text(leaner, "utf-8")


def setup(app):
    """Called by Sphinx; after all that add scripts."""
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", reach_by_keyboard, priority=900)
    app.connect("build-finished", drop_icon_script)
    return {"parallel_read_safe": True}
