"""Lets the launch buttons open a chapter's source: executed pages are not in the repository."""

from pathlib import Path

import yaml


def open_source(app, pagename, templatename, context, doctree):
    """Point each button of a chapter to ``notebooks/``; without an address there is no button.

    Jupyter Book fills a missing address with that of its own project.
    """
    groups = context.get("header_buttons", [])
    if not _address(Path(app.srcdir)):
        groups = [group for group in groups if group.get("label") != "launch-buttons"]
        context["header_buttons"] = groups
    for group in groups:
        for button in [group, *group.get("buttons", [])]:
            if isinstance(button.get("url"), str) and "://" in button["url"]:
                button["url"] = button["url"].replace("book/executed/", "notebooks/")


def _address(root):
    """The address of the repository in ``_config.yml``, or nothing."""
    settings = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    return (settings.get("repository") or {}).get("url")


def setup(app):
    """Called by Sphinx; after the theme has made its buttons."""
    app.connect("html-page-context", open_source, priority=900)
    return {"parallel_read_safe": True}
