"""Reports: well-formed, self-contained HTML; plots; overlays."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.reporting.overlay import overlay_class_map, stretch_contrast
from edgeinspect.learning.reporting.svg_plot import BLUE, Axis, Plot

VOID = {"meta", "img", "br", "link", "input"}


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
        if tag not in VOID:
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
    st.booleans(),
    st.text(max_size=8),
)
def test_plots_are_xml_with_all_marks_inside(
    points: list[tuple[float, float]], log: bool, name: str
) -> None:
    name = "".join(each for each in name if each.isprintable())
    plot = Plot(
        "t", Axis("x <&>", 0.001 if log else 0, 1, is_log=log), Axis("y", 0, 1, is_percent=True)
    )
    plot.step(points, BLUE, name)
    plot.errorbar([(x, y, y, y) for x, y in points], BLUE, tooltip=lambda index: f"<{index}>")
    root = ElementTree.fromstring(plot.to_svg())
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= plot.width
        assert 0 <= float(circle.attrib["cy"]) <= plot.height


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (0, 1, False),
        (0.001, 1, False),
        (3, 70_000, False),
        (-2, 1e-3, False),
        (0.001, 1, True),
        (3, 70_000, True),
        (16, 32, True),
    ],
)
def test_ticks_are_inside_and_not_too_many(low: float, high: float, log: bool) -> None:
    ticks = Axis("x", low, high, is_log=log).ticks()
    assert 2 <= len(ticks) <= 16
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_an_overlay_shows_a_single_pixel() -> None:
    image = np.full((256, 1600, 1), 100, np.uint8)
    mask = np.zeros((256, 1600), np.uint8)
    plain = overlay_class_map(image, mask, 1000)
    mask[100, 700] = 3
    marked = overlay_class_map(image, mask, 1000)
    assert marked.shape == (160, 1000, 3)
    rows, columns = np.nonzero((marked != plain).any(axis=2))
    assert rows.size > 8
    assert abs(rows.mean() - 62.5) < 3
    assert abs(columns.mean() - 437.5) < 3


def test_stretching_keeps_the_order_of_gray_levels() -> None:
    dull = np.random.default_rng(1).normal(60, 5, (64, 64, 1)).astype(np.uint8)
    assert stretch_contrast(dull).std() > 2 * dull.std()
    order = np.argsort(dull, axis=None, kind="stable")
    assert (np.diff(stretch_contrast(dull).ravel()[order].astype(int)) >= 0).all()
    full = np.linspace(0, 255, 4096).astype(np.uint8).reshape(64, 64, 1)
    assert stretch_contrast(full) is full
    black = np.zeros((8, 8, 1), np.uint8)
    assert stretch_contrast(black) is black


def test_jpeg_data_uris_decode(tmp_path: Path) -> None:
    from base64 import b64decode

    from edgeinspect.learning.reporting.overlay import jpeg_data_uri

    image = np.full((20, 30, 3), 77, np.uint8)
    head, _comma, data = jpeg_data_uri(image).partition(",")
    assert head == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert np.abs(back.astype(int) - 77).max() < 4
