"""Checks that a report is well-formed, self-contained HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID_ELEMENTS = {"meta", "img", "br", "link", "input"}


class StrictParser(HTMLParser):
    """Checks nesting, counts images and collects every reference."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        self.images += tag == "img"
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An SVG element without content."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_document(text: str) -> StrictParser:
    """Check that a document is well-formed and refers to nothing outside itself."""
    parser = StrictParser()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert all(each.startswith("data:image/") for each in parser.references)
    assert not re.search(r"https?://|url\(|@import", text)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(drawing)
    return parser
