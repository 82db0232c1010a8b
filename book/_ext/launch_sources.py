"""Lets the launch buttons open a chapter's source: executed pages are not in the repository."""


def open_source(app, pagename, templatename, context, doctree):
    """Point each button of a chapter to ``notebooks/``."""
    for group in context.get("header_buttons", []):
        for button in [group, *group.get("buttons", [])]:
            if isinstance(button.get("url"), str) and "://" in button["url"]:
                button["url"] = button["url"].replace("book/executed/", "notebooks/")


def setup(app):
    """Called by Sphinx; after the theme has made its buttons."""
    app.connect("html-page-context", open_source, priority=900)
    return {"parallel_read_safe": True}
