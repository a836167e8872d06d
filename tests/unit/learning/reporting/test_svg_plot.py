from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.learning.reporting.svg_plot import BLUE, Axis, Plot, side_by_side


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


def test_plots_in_one_row_are_one_file() -> None:
    plots = [Plot(name, Axis("x", 0, 1), Axis("y", 0, 1)) for name in ("first", "second")]
    plots[1].line([(0, 0), (1, 1)], BLUE, "diagonal")
    root = ElementTree.fromstring(side_by_side(plots))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["viewBox"] == f"0 0 {2 * plots[0].width} {plots[1].total_height}"
    inner = [element for element in root.iter() if element.tag.endswith("}svg")][1:]
    assert [element.attrib["aria-label"] for element in inner] == ["first", "second"]
