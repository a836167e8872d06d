"""Plots as inline SVG: two axes, lines, bars, points with intervals; the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

INK, FAINT, GRID = "#1c2430", "#5b6675", "#e3e7ec"
BLUE, RED, AMBER, GREEN = "#1f5fbf", "#c4314b", "#b7791f", "#2f7d4f"

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 26, 14, 46
_MIN_TICK_SPACING_PX = 46
"""Minimum distance of two labels on the x axis."""
_FONT = 12

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: label, range and scale."""

    label: str
    low: float
    high: float
    is_log: bool = False
    is_percent: bool = False
    """Values are shares; labels are percentages."""

    def normalise(self, value: float) -> float:
        """Map a value to 0 to 1 along the axis; values outside are clipped to its ends."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = (math.log10(max(v, 1e-12)) for v in (value, low, high))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Return round values within the range."""
        if self.is_log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 3 else (1,)
            values = [s * 10.0**power for power in range(first, last + 1) for s in steps]
            inside = [v for v in values if self._contains(v)]
            if len(inside) > 1:
                return inside
        step = _round_step((self.high - self.low) / 5)
        count = int((self.high - self.low) / step + 1e-6)
        start = math.ceil(self.low / step - 1e-9)
        return [v for k in range(count + 1) if self._contains(v := (start + k) * step)]

    def _contains(self, value: float) -> bool:
        edge = 1e-9 * max(abs(self.low), abs(self.high))
        return self.low - edge <= value <= self.high + edge

    def tick_label(self, value: float) -> str:
        """Format the label of a tick."""
        if self.is_percent:
            return f"{100 * value:.4g} %"
        return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.4g}"


@dataclass(slots=True)
class Plot:
    """A plot under construction. Marks are drawn in the order in which they are added."""

    title: str
    x: Axis
    y: Axis
    width: int = 470
    height: int = 320
    _marks: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str]] = field(default_factory=list)

    def line(
        self, points: Sequence[Point], color: str, name: str = "", *, dashed: bool = False
    ) -> None:
        """Add a line through points."""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._marks.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>'
        )
        self._add_legend(name, color)

    def step(self, points: Sequence[Point], color: str, name: str = "") -> None:
        """Add a step line: horizontal first, then vertical."""
        out: list[Point] = []
        for x, y in points:
            if out:
                out.append((x, out[-1][1]))
            out.append((x, y))
        self.line(out, color, name)

    def errorbar(
        self,
        points: Sequence[tuple[float, float, float, float]],
        color: str,
        name: str = "",
        tooltip: Callable[[int], str] = lambda index: "",
    ) -> None:
        """Add points with vertical intervals: (x, y, low, high).

        `tooltip` maps a point's index to text; no tooltip where it is empty.
        """
        for index, (x, y, low, high) in enumerate(points):
            at = self._x(x)
            text = tooltip(index)
            title = f"<title>{escape(text)}</title>" if text else ""
            self._marks.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self._y(low):.1f}" '
                f'y2="{self._y(high):.1f}" stroke="{color}" stroke-width="1.5" opacity="0.55"/>'
                f'<circle cx="{at:.1f}" cy="{self._y(y):.1f}" r="4" fill="{color}">{title}</circle>'
            )
        self._add_legend(name, color)

    def bars(self, bars: Sequence[tuple[float, float, float]], color: str, name: str = "") -> None:
        """Add vertical bars: (from x, to x, y)."""
        for low, high, y in bars:
            x, top = self._x(low), self._y(y)
            width, height = self._x(high) - x, self._y(self.y.low) - top
            self._marks.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{max(0.5, width - 1):.1f}" '
                f'height="{max(0.0, height):.1f}" fill="{color}" opacity="0.75"/>'
            )
        self._add_legend(name, color)

    def vline(self, x: float, color: str, name: str = "") -> None:
        """Add a dashed vertical line."""
        at = self._x(x)
        self._marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{self._y(self.y.low):.1f}" '
            f'stroke="{color}" stroke-width="1.5" stroke-dasharray="5 4"/>'
        )
        self._add_legend(name, color)

    def to_svg(self) -> str:
        """Return the SVG element."""
        height = self.total_height
        parts = [
            f'<svg viewBox="0 0 {self.width} {height}" width="{self.width}" height="{height}" '
            f'role="img" aria-label="{escape(self.title)}" font-size="{_FONT}" '
            'font-family="system-ui, sans-serif">',
            *self._draw_axes(),
            *self._marks,
            *self._draw_legend(),
            "</svg>",
        ]
        return "".join(parts)

    @property
    def total_height(self) -> int:
        """Height with the legend, in pixels."""
        return self.height + 18 * len(self._legend) + 4

    def _x(self, value: float) -> float:
        return _LEFT + self.x.normalise(value) * (self.width - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return self.height - _BOTTOM - self.y.normalise(value) * (self.height - _TOP - _BOTTOM)

    def _add_legend(self, name: str, color: str) -> None:
        if name:
            self._legend.append((name, color))

    def _draw_axes(self) -> list[str]:
        right, bottom = self.width - _RIGHT, self.height - _BOTTOM
        out = []
        labelled: list[float] = []
        for value in sorted(self.x.ticks(), key=_tick_priority):
            at = self._x(value)
            out.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}" stroke="{GRID}"/>'
            )
            if all(abs(at - other) >= _MIN_TICK_SPACING_PX for other in labelled):
                labelled.append(at)
                out.append(
                    f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle" fill="{FAINT}">'
                    f"{escape(self.x.tick_label(value))}</text>"
                )
        for value in self.y.ticks():
            at = self._y(value)
            out.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>'
                f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="{FAINT}">'
                f"{escape(self.y.tick_label(value))}</text>"
            )
        middle = (_TOP + bottom) / 2
        out.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{FAINT}"/>'
            f'<line x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{bottom}" stroke="{FAINT}"/>'
            f'<text x="{(_LEFT + right) / 2:.1f}" y="{bottom + 36}" text-anchor="middle" '
            f'fill="{INK}">{escape(self.x.label)}</text>'
            f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle" '
            f'fill="{INK}">{escape(self.y.label)}</text>'
        )
        return out

    def _draw_legend(self) -> list[str]:
        out = []
        for row, (name, color) in enumerate(self._legend):
            y = self.height + 18 * row + 10
            out.append(
                f'<rect x="{_LEFT}" y="{y - 8}" width="14" height="8" fill="{color}"/>'
                f'<text x="{_LEFT + 20}" y="{y}" fill="{INK}">{escape(name)}</text>'
            )
        return out


def side_by_side(plots: Sequence[Plot]) -> str:
    """Return plots in one row as an SVG file."""
    width, height = sum(plot.width for plot in plots), max(plot.total_height for plot in plots)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    x = 0
    for plot in plots:
        parts.append(f'<g transform="translate({x} 0)">{plot.to_svg()}</g>')
        x += plot.width
    return "\n".join([*parts, "</svg>\n"])


def _tick_priority(value: float) -> tuple[float, float]:
    """Sort key of tick labels: powers of ten first, then fives, then the rest."""
    if value <= 0:
        return (0, value)
    lead = round(value / 10.0 ** math.floor(math.log10(value) + 1e-9), 6)
    return ({1.0: 0, 5.0: 1}.get(lead, 2), value)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * (1 - 1e-9))
