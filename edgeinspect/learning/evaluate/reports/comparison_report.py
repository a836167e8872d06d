"""The page of a comparison: what changed from A to B, and on which pictures."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape as quote

from edgeinspect.learning.evaluate.comparison import (
    NOISE_TOLERANCE,
    DifferingFrame,
    PairedComparison,
    change,
)
from edgeinspect.learning.evaluate.metrics.frame_results import FrameSample
from edgeinspect.learning.evaluate.metrics.paired_tests import DiscordantPairs, PairedDifference
from edgeinspect.learning.evaluate.metrics.scores import upsample_class_map
from edgeinspect.learning.evaluate.reports.plots import format_percent
from edgeinspect.learning.reporting import (
    display_width_px,
    html,
    jpeg_data_uri,
    overlay_class_map,
    to_display_size,
)

SCHEMA = "edgeinspect.comparison/1"
MAX_SHOWN_IMAGES = 12
"""Pictures on the page."""
_MAX_TABLE_ROWS = 60


@dataclass(order=True, slots=True)
class _HeapEntry:
    weight: tuple[bool, float]
    order: int
    name: str = field(compare=False)
    html: str = field(compare=False)


class DifferenceImages:
    """Draws the pictures that differ most, while a comparison runs. For one thread."""

    def __init__(self, a: str, b: str, *, strides: tuple[int, int], has_masks: bool) -> None:
        self._a = a
        self._b = b
        self._strides = strides
        self._has_masks = has_masks
        self._heap: list[_HeapEntry] = []
        self._order = 0

    def add(self, sample_a: FrameSample, sample_b: FrameSample, ratio: float | None) -> None:
        """`on_pair` of `compare`."""
        self._order -= 1
        apart = change(sample_a.result.prob, sample_b.result.prob, ratio)
        weight = (sample_a.result.is_rejected != sample_b.result.is_rejected, apart)
        if not weight[0] and apart <= NOISE_TOLERANCE:
            return
        if len(self._heap) >= MAX_SHOWN_IMAGES and (weight, self._order) <= (
            self._heap[0].weight,
            self._heap[0].order,
        ):
            return
        entry = _HeapEntry(
            weight, self._order, sample_a.result.name, self._render(sample_a, sample_b)
        )
        if len(self._heap) < MAX_SHOWN_IMAGES:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def render(self) -> Sequence[str]:
        """The pictures as HTML, those that differ most first."""
        return [entry.html for entry in sorted(self._heap, reverse=True)]

    def _render(self, sample_a: FrameSample, sample_b: FrameSample) -> str:
        height, width = sample_a.image.shape[:2]
        wide = display_width_px(height, width)
        shown = [("picture", to_display_size(sample_a.image, wide))]
        if self._has_masks:
            shown.append(("truth", overlay_class_map(sample_a.image, sample_a.mask, wide)))
        for name, seen, stride in zip("AB", (sample_a, sample_b), self._strides, strict=True):
            if seen.inspection.class_map is not None:
                found = upsample_class_map(seen.inspection.class_map, stride, height, width)
                shown.append((f"{name} found", overlay_class_map(sample_a.image, found, wide)))
        row = "".join(
            f'<div>{title}<img alt="{quote(sample_a.result.name)}, {title}" width="{wide}" '
            f'src="{jpeg_data_uri(pixels)}"></div>'
            for title, pixels in shown
        )
        truth = "defective" if sample_a.result.is_defective else "sound"
        results = f"A {_describe_result(sample_a)}, B {_describe_result(sample_b)}"
        head = f"<b>{quote(sample_a.result.name)}</b> {quote(f'{truth}; {results}')}"
        body = f'<div class="small">{head}</div><div class="row">{row}</div>'
        return f'<div class="picture">{body}</div>'


def render_comparison(
    paired: PairedComparison,
    images: Sequence[str],
    *,
    data: str,
    classes: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """A comparison as one self-contained HTML document."""
    body = [
        *_head(paired, data, notes),
        *_tables(paired),
        *_differing_frames(paired, images, classes),
    ]
    return html.document(f"{paired.a} against {paired.b}", body)


def _head(paired: PairedComparison, data: str, notes: Sequence[str]) -> Iterator[str]:
    yield f"<h1>A: {quote(paired.a)}<br>B: {quote(paired.b)}</h1>"
    yield html.paragraph(f"on {data}: {paired.pictures} pictures, {paired.defective} defective")
    for each in notes:
        yield html.paragraph(each, faint=True)
    tiles = [
        html.stat_tile(
            "same decision",
            format_percent(paired.agreement_ratio),
            f"{_changed_count(paired)} of {paired.pictures} pictures changed",
            kind="good" if not _changed_count(paired) else "warn",
        )
    ]
    for name, flips in (
        ("more escapes with B", paired.escapes),
        ("more overkills with B", paired.overkills),
    ):
        if flips is not None:
            more = flips.only_b - flips.only_a
            said = (
                f"of {flips.pictures}; p = {flips.p_value:.3g}",
                f"95 %: {_format_points(flips.rate)}",
            )
            kind = "bad" if more > 0 else ""
            tiles.append(html.stat_tile(name, f"{more:+d}", *said, kind=kind))
    if paired.dice:
        mean = paired.dice[-1]
        tiles.append(
            html.stat_tile(
                "mean Dice, B less A",
                f"{mean.difference:+.4f}",
                f"95 %: {mean.low:+.4f} to {mean.high:+.4f}",
            )
        )
    if paired.pixel_agreement_ratio is not None:
        tiles.append(
            html.stat_tile(
                "pixels of the same class", f"{100 * paired.pixel_agreement_ratio:.3f} %"
            )
        )
    if paired.largest_prob_difference is not None:
        tiles.append(
            html.stat_tile(
                "largest change of the gate's probability", f"{paired.largest_prob_difference:.4f}"
            )
        )
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _tables(paired: PairedComparison) -> Iterator[str]:
    yield '<h2>Figures</h2><div class="card cols">'
    errors = [("escapes", paired.escapes), ("overkills", paired.overkills)]
    yield html.table(
        ("error", "A alone", "B alone", "both", "possible", "McNemar p"),
        [
            (name, str(f.only_a), str(f.only_b), str(f.both), str(f.pictures), f"{f.p_value:.3g}")
            for name, f in errors
            if f is not None
        ],
        caption="Errors, paired by picture",
    )
    rows = [f.rate for _name, f in errors if f is not None]
    if paired.auc is not None:
        rows.append(paired.auc)
    yield html.table(
        ("figure", "A", "B", "B less A", "95 % interval"),
        map(_difference_row, rows),
        caption="Rates",
    )
    for caption, differences in (("Dice", paired.dice), ("IoU", paired.iou)):
        if differences:
            yield html.table(
                ("class", "A", "B", "B less A", "95 % interval"),
                map(_difference_row, differences),
                caption=caption,
            )
    yield "</div>"
    yield html.paragraph(
        f"Intervals of Dice and IoU: bootstrap over pictures, both models on the same draws, "
        f"{paired.rounds} rounds, seed {paired.seed}. Of rates: Agresti and Min. Of AUC: DeLong.",
        faint=True,
    )


def _differing_frames(
    paired: PairedComparison, images: Sequence[str], classes: Sequence[str]
) -> Iterator[str]:
    yield "<h2>Pictures on which they differ</h2>"
    if not paired.differing:
        yield html.paragraph(
            f"None: no decision changed, and nothing moved by more than {NOISE_TOLERANCE:g}."
        )
        return
    yield '<div class="card">'
    yield html.table(
        ("picture", "is", "A", "B", "gate A", "gate B", "Dice A", "Dice B", "pixels that differ"),
        [
            (
                row.name,
                "defective" if row.defective else "sound",
                _decision_label(row.a_rejected),
                _decision_label(row.b_rejected),
                _format_optional(row.a_prob),
                _format_optional(row.b_prob),
                _format_optional(row.a_dice),
                _format_optional(row.b_dice),
                _format_difference_ratio(row),
            )
            for row in paired.differing[:_MAX_TABLE_ROWS]
        ],
    )
    yield "</div>"
    if len(paired.differing) > _MAX_TABLE_ROWS:
        yield html.paragraph(
            f"The first {_MAX_TABLE_ROWS} of {len(paired.differing)}; the JSON has them."
        )
    yield html.legend_paragraph(classes)
    yield from images


def _changed_count(paired: PairedComparison) -> int:
    return round((1 - paired.agreement_ratio) * paired.pictures)


def _format_points(rate: PairedDifference) -> str:
    return f"{100 * rate.low:+.2f} to {100 * rate.high:+.2f} points"


def _difference_row(each: PairedDifference) -> tuple[str, str, str, str, str]:
    return (
        each.name,
        f"{each.a:.4f}",
        f"{each.b:.4f}",
        f"{each.difference:+.4f}",
        f"{each.low:+.4f} to {each.high:+.4f}",
    )


def _decision_label(rejected: bool) -> str:
    return "reject" if rejected else "pass"


def _format_optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _format_difference_ratio(row: DifferingFrame) -> str:
    return "–" if row.differing_ratio is None else f"{100 * row.differing_ratio:.3f} %"


def _describe_result(sample: FrameSample) -> str:
    answer = sample.result
    prob = "" if answer.prob is None else f" at {answer.prob:.4f}"
    dice = "" if answer.dice is None else f", Dice {answer.dice:.3f}"
    return f"{_decision_label(answer.is_rejected)}es{prob}{dice}".replace("rejectes", "rejects")


def describe_discordant_pairs(name: str, flips: DiscordantPairs) -> str:
    """One line for the terminal."""
    return (
        f"{name}: {flips.only_a} of A alone, {flips.only_b} of B alone, {flips.both} of both, "
        f"of {flips.pictures}; McNemar p = {flips.p_value:.3g}; B less A "
        f"{100 * flips.rate.difference:+.2f} points ({_format_points(flips.rate)})"
    )
