"""Checks that a folder of web pages can be read without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# Elements that a browser fetches by itself, and the attribute that says where from.
_SHOWN = ("script", "img", "iframe", "source", "video", "audio", "embed")
_FETCHED = {**dict.fromkeys(_SHOWN, "src"), "object": "data", "link": "href"}
_NOT_FETCHED = {"canonical", "next", "prev", "index", "search", "author", "license"}  # rel of link
_EXTERNAL = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_IN_CSS = re.compile(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


def external_references(folder: Path) -> list[str]:
    """The addresses that the pages and style sheets of a folder would fetch from a network.

    Args:
        folder: holds the built pages.

    Returns:
        ``file: address`` for each such reference; empty if the pages need no network.
    """
    found = []
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text("utf-8"))
        found += [f"{path.relative_to(folder)}: {address}" for address in page.fetched]
    for path in sorted(folder.rglob("*.css")):
        found += [
            f"{path.relative_to(folder)}: {a}" for a in _IN_CSS.findall(path.read_text("utf-8"))
        ]
    return found


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.fetched += [a for a in self._addresses(tag, given) if _EXTERNAL.match(a)]
        self.fetched += _IN_CSS.findall(given.get("style", ""))

    @staticmethod
    def _addresses(tag: str, given: dict[str, str]) -> Iterator[str]:
        relation = set(given.get("rel", "").lower().split())
        if tag in _FETCHED and not (tag == "link" and relation & _NOT_FETCHED):
            yield given.get(_FETCHED[tag], "")
