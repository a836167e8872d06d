"""The HTML report of a comparison: what changed from A to B, and on which images."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.evaluate.comparison import (
    NOISE_TOLERANCE,
    PairedComparison,
    change,
)
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult, FrameSample
from edgeinspect.learning.evaluate.metrics.paired_tests import DiscordantPairs, PairedDifference
from edgeinspect.learning.evaluate.reports.plots import format_percent
from edgeinspect.learning.reporting import (
    display_width_px,
    html,
    overlay_class_map,
    to_display_size,
)

MAX_SHOWN_IMAGES = 12
_MAX_TABLE_ROWS = 60
_DIFFERENCE_HEADINGS = ("A", "B", "B minus A", "95 % interval")


@dataclass(order=True, slots=True)
class _HeapEntry:
    weight: tuple[bool, float]
    order: int
    html: str = field(compare=False)


class DifferenceImages:
    """Renders the images that differ most while a comparison runs. For one thread."""

    def __init__(self, *, strides: tuple[int, int], has_masks: bool) -> None:
        self._strides = strides
        self._has_masks = has_masks
        self._heap: list[_HeapEntry] = []
        self._order = 0

    def add(self, sample_a: FrameSample, sample_b: FrameSample, ratio: float | None) -> None:
        """Render a pair if it is among the most different so far (`on_pair`)."""
        self._order -= 1
        a, b = sample_a.result, sample_b.result
        is_flipped, distance = a.is_rejected != b.is_rejected, change(a.prob, b.prob, ratio)
        if not is_flipped and distance <= NOISE_TOLERANCE:
            return
        key = ((is_flipped, distance), self._order)
        if len(self._heap) < MAX_SHOWN_IMAGES:
            heapq.heappush(self._heap, _HeapEntry(*key, self._render(sample_a, sample_b)))
        elif key > (self._heap[0].weight, self._heap[0].order):
            heapq.heapreplace(self._heap, _HeapEntry(*key, self._render(sample_a, sample_b)))

    def render(self) -> Sequence[str]:
        """Return the images as HTML, the most different first."""
        return [entry.html for entry in sorted(self._heap, reverse=True)]

    def _render(self, sample_a: FrameSample, sample_b: FrameSample) -> str:
        frame, result = sample_a.image, sample_a.result
        height, width = frame.shape[:2]
        display_px = display_width_px(height, width)
        images = [("image", to_display_size(frame, display_px))]
        if self._has_masks:
            images.append(("label", overlay_class_map(frame, sample_a.mask, display_px)))
        for name, sample, stride in zip("AB", (sample_a, sample_b), self._strides, strict=True):
            if sample.inspection.class_map is not None:
                class_map = upsample_class_map(sample.inspection.class_map, stride, height, width)
                images.append(
                    (f"{name} predicted", overlay_class_map(frame, class_map, display_px))
                )
        label = "defective" if result.is_defective else "good"
        results = f"A {_describe_result(result)}, B {_describe_result(sample_b.result)}"
        return html.image_row(result.name, images, f"{label}; {results}")


def render_comparison(
    paired: PairedComparison,
    images: Sequence[str],
    *,
    data: str,
    classes: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """Render a comparison as one self-contained HTML document."""
    body = [
        *_head(paired, data, notes),
        *_tables(paired),
        *_differing_frames(paired, images, classes),
    ]
    return html.document(f"{paired.a} against {paired.b}", body)


def _head(paired: PairedComparison, data: str, notes: Sequence[str]) -> Iterator[str]:
    yield f"<h1>A: {escape(paired.a)}<br>B: {escape(paired.b)}</h1>"
    yield html.paragraph(f"on {data}: {paired.pictures} images, {paired.defective} defective")
    for note in notes:
        yield html.paragraph(note, faint=True)
    changed = round((1 - paired.agreement_ratio) * paired.pictures)
    tiles = [
        html.stat_tile(
            "same decision",
            format_percent(paired.agreement_ratio),
            f"{changed} of {paired.pictures} images changed",
            kind="warn" if changed else "good",
        )
    ]
    for name, pairs in (
        ("more escapes with B", paired.escapes),
        ("more overkills with B", paired.overkills),
    ):
        if pairs is not None:
            more = pairs.only_b - pairs.only_a
            tiles.append(
                html.stat_tile(
                    name,
                    f"{more:+d}",
                    f"of {pairs.pictures}; p = {pairs.p_value:.3g}",
                    f"95 %: {_format_points(pairs.rate)}",
                    kind="bad" if more > 0 else "",
                )
            )
    if paired.dice:
        mean = paired.dice[-1]
        interval = f"95 %: {mean.low:+.4f} to {mean.high:+.4f}"
        tiles.append(html.stat_tile("mean Dice, B minus A", f"{mean.difference:+.4f}", interval))
    if paired.pixel_agreement_ratio is not None:
        share = f"{100 * paired.pixel_agreement_ratio:.3f} %"
        tiles.append(html.stat_tile("pixels of the same class", share))
    if paired.largest_prob_difference is not None:
        largest = f"{paired.largest_prob_difference:.4f}"
        tiles.append(html.stat_tile("largest change of the gate's probability", largest))
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _tables(paired: PairedComparison) -> Iterator[str]:
    yield '<h2>Metrics</h2><div class="card cols">'
    errors = [
        (name, pairs)
        for name, pairs in (("escapes", paired.escapes), ("overkills", paired.overkills))
        if pairs is not None
    ]
    yield html.table(
        ("error", "A alone", "B alone", "both", "possible", "McNemar p"),
        [
            (name, *map(str, (p.only_a, p.only_b, p.both, p.pictures)), f"{p.p_value:.3g}")
            for name, p in errors
        ],
        caption="Errors, paired by image",
    )
    rates = [pairs.rate for _name, pairs in errors]
    if paired.auc is not None:
        rates.append(paired.auc)
    for caption, heading, rows in (
        ("Rates", "metric", rates),
        ("Dice", "class", paired.dice),
        ("IoU", "class", paired.iou),
    ):
        if rows or caption == "Rates":
            headings = (heading, *_DIFFERENCE_HEADINGS)
            yield html.table(headings, map(_difference_row, rows), caption=caption)
    yield "</div>"
    yield html.paragraph(
        "Intervals of Dice and IoU: bootstrap over images, both models on the same draws, "
        f"{paired.rounds} rounds, seed {paired.seed}. Of rates: Agresti and Min. Of AUC: DeLong.",
        faint=True,
    )


def _differing_frames(
    paired: PairedComparison, images: Sequence[str], classes: Sequence[str]
) -> Iterator[str]:
    yield "<h2>Images on which they differ</h2>"
    if not paired.differing:
        yield html.paragraph(
            f"None: no decision changed, and no change is larger than {NOISE_TOLERANCE:g}."
        )
        return
    yield '<div class="card">'
    yield html.table(
        ("image", "is", "A", "B", "gate A", "gate B", "Dice A", "Dice B", "differing pixels"),
        [
            (
                row.name,
                "defective" if row.defective else "good",
                _decision_label(row.a_rejected),
                _decision_label(row.b_rejected),
                _format_optional(row.a_prob),
                _format_optional(row.b_prob),
                _format_optional(row.a_dice),
                _format_optional(row.b_dice),
                "–" if row.differing_ratio is None else f"{100 * row.differing_ratio:.3f} %",
            )
            for row in paired.differing[:_MAX_TABLE_ROWS]
        ],
    )
    yield "</div>"
    if len(paired.differing) > _MAX_TABLE_ROWS:
        yield html.paragraph(
            f"The first {_MAX_TABLE_ROWS} of {len(paired.differing)}; the JSON has all."
        )
    yield html.legend_paragraph(classes)
    yield from images


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


def _describe_result(result: FrameResult) -> str:
    decision = "rejects" if result.is_rejected else "passes"
    prob = "" if result.prob is None else f" at {result.prob:.4f}"
    dice = "" if result.dice is None else f", Dice {result.dice:.3f}"
    return f"{decision}{prob}{dice}"


def describe_discordant_pairs(name: str, pairs: DiscordantPairs) -> str:
    """Return one line for the terminal."""
    return (
        f"{name}: {pairs.only_a} of A alone, {pairs.only_b} of B alone, {pairs.both} of both, "
        f"of {pairs.pictures}; McNemar p = {pairs.p_value:.3g}; B minus A "
        f"{100 * pairs.rate.difference:+.2f} points ({_format_points(pairs.rate)})"
    )
