"""The page of a comparison: what changed from A to B, and on which pictures."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape as quote

from edgeinspect.learning.evaluate.comparison import NOISE, Differing, Paired, change
from edgeinspect.learning.evaluate.metrics.frame_results import Seen
from edgeinspect.learning.evaluate.metrics.paired_tests import Difference, Flips
from edgeinspect.learning.evaluate.metrics.scores import enlarge
from edgeinspect.learning.evaluate.reports.plots import percent
from edgeinspect.learning.reporting import html
from edgeinspect.learning.reporting.overlay import data_uri, fit, overlay, shown_width

SCHEMA = "edgeinspect.comparison/1"
SHOWN = 12
"""Pictures on the page."""
_ROWS = 60


@dataclass(order=True, slots=True)
class _Entry:
    weight: tuple[bool, float]
    place: int
    name: str = field(compare=False)
    drawn: str = field(compare=False)


class DifferingPictures:
    """Draws the pictures that differ most, while a comparison runs. For one thread."""

    def __init__(self, a: str, b: str, *, strides: tuple[int, int], has_masks: bool) -> None:
        self._a = a
        self._b = b
        self._strides = strides
        self._has_masks = has_masks
        self._heap: list[_Entry] = []
        self._place = 0

    def see(self, mine: Seen, theirs: Seen, ratio: float | None) -> None:
        """`on_pair` of `compare`."""
        self._place -= 1
        apart = change(mine.answer.prob, theirs.answer.prob, ratio)
        weight = (mine.answer.rejected != theirs.answer.rejected, apart)
        if not weight[0] and apart <= NOISE:
            return
        if len(self._heap) >= SHOWN and (weight, self._place) <= (
            self._heap[0].weight,
            self._heap[0].place,
        ):
            return
        entry = _Entry(weight, self._place, mine.answer.name, self._draw(mine, theirs))
        if len(self._heap) < SHOWN:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def drawn(self) -> Sequence[str]:
        """The pictures as HTML, those that differ most first."""
        return [entry.drawn for entry in sorted(self._heap, reverse=True)]

    def _draw(self, mine: Seen, theirs: Seen) -> str:
        height, width = mine.image.shape[:2]
        wide = shown_width(height, width)
        shown = [("picture", fit(mine.image, wide))]
        if self._has_masks:
            shown.append(("truth", overlay(mine.image, mine.mask, wide)))
        for name, seen, stride in zip("AB", (mine, theirs), self._strides, strict=True):
            if seen.judged.class_map is not None:
                found = enlarge(seen.judged.class_map, stride, height, width)
                shown.append((f"{name} found", overlay(mine.image, found, wide)))
        row = "".join(
            f'<div>{title}<img alt="{quote(mine.answer.name)}, {title}" width="{wide}" '
            f'src="{data_uri(pixels)}"></div>'
            for title, pixels in shown
        )
        said = f"{'defective' if mine.answer.defective else 'sound'}; A {_said(mine)}, "
        head = f"<b>{quote(mine.answer.name)}</b> {quote(said + 'B ' + _said(theirs))}"
        body = f'<div class="small">{head}</div><div class="row">{row}</div>'
        return f'<div class="picture">{body}</div>'


def write_page(
    paired: Paired,
    drawn: Sequence[str],
    *,
    data: str,
    classes: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    """A comparison as one self-contained HTML document."""
    body = [*_head(paired, data, notes), *_tables(paired), *_pictures(paired, drawn, classes)]
    return html.page(f"{paired.a} against {paired.b}", body)


def _head(paired: Paired, data: str, notes: Sequence[str]) -> Iterator[str]:
    yield f"<h1>A: {quote(paired.a)}<br>B: {quote(paired.b)}</h1>"
    yield html.words(f"on {data}: {paired.pictures} pictures, {paired.defective} defective")
    for each in notes:
        yield html.words(each, faint=True)
    tiles = [
        html.tile(
            "same decision",
            percent(paired.agreement_ratio),
            f"{_changed(paired)} of {paired.pictures} pictures changed",
            kind="good" if not _changed(paired) else "warn",
        )
    ]
    for name, flips in (
        ("more escapes with B", paired.escapes),
        ("more overkills with B", paired.overkills),
    ):
        if flips is not None:
            more = flips.only_b - flips.only_a
            said = (f"of {flips.pictures}; p = {flips.p_value:.3g}", f"95 %: {_points(flips.rate)}")
            kind = "bad" if more > 0 else ""
            tiles.append(html.tile(name, f"{more:+d}", *said, kind=kind))
    if paired.dice:
        mean = paired.dice[-1]
        tiles.append(
            html.tile(
                "mean Dice, B less A",
                f"{mean.difference:+.4f}",
                f"95 %: {mean.low:+.4f} to {mean.high:+.4f}",
            )
        )
    if paired.pixel_agreement_ratio is not None:
        tiles.append(
            html.tile("pixels of the same class", f"{100 * paired.pixel_agreement_ratio:.3f} %")
        )
    if paired.largest_prob_difference is not None:
        tiles.append(
            html.tile(
                "largest change of the gate's probability", f"{paired.largest_prob_difference:.4f}"
            )
        )
    yield f'<div class="tiles">{"".join(tiles)}</div>'


def _tables(paired: Paired) -> Iterator[str]:
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
        ("figure", "A", "B", "B less A", "95 % interval"), map(_row, rows), caption="Rates"
    )
    for caption, differences in (("Dice", paired.dice), ("IoU", paired.iou)):
        if differences:
            yield html.table(
                ("class", "A", "B", "B less A", "95 % interval"),
                map(_row, differences),
                caption=caption,
            )
    yield "</div>"
    yield html.words(
        f"Intervals of Dice and IoU: bootstrap over pictures, both models on the same draws, "
        f"{paired.rounds} rounds, seed {paired.seed}. Of rates: Agresti and Min. Of AUC: DeLong.",
        faint=True,
    )


def _pictures(paired: Paired, drawn: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    yield "<h2>Pictures on which they differ</h2>"
    if not paired.differing:
        yield html.words(f"None: no decision changed, and nothing moved by more than {NOISE:g}.")
        return
    yield '<div class="card">'
    yield html.table(
        ("picture", "is", "A", "B", "gate A", "gate B", "Dice A", "Dice B", "pixels that differ"),
        [
            (
                row.name,
                "defective" if row.defective else "sound",
                _word(row.a_rejected),
                _word(row.b_rejected),
                _number(row.a_prob),
                _number(row.b_prob),
                _number(row.a_dice),
                _number(row.b_dice),
                _share(row),
            )
            for row in paired.differing[:_ROWS]
        ],
    )
    yield "</div>"
    if len(paired.differing) > _ROWS:
        yield html.words(f"The first {_ROWS} of {len(paired.differing)}; the JSON has them.")
    yield html.key(classes)
    yield from drawn


def _changed(paired: Paired) -> int:
    return round((1 - paired.agreement_ratio) * paired.pictures)


def _points(rate: Difference) -> str:
    return f"{100 * rate.low:+.2f} to {100 * rate.high:+.2f} points"


def _row(each: Difference) -> tuple[str, str, str, str, str]:
    return (
        each.name,
        f"{each.a:.4f}",
        f"{each.b:.4f}",
        f"{each.difference:+.4f}",
        f"{each.low:+.4f} to {each.high:+.4f}",
    )


def _word(rejected: bool) -> str:
    return "reject" if rejected else "pass"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _share(row: Differing) -> str:
    return "–" if row.differing_ratio is None else f"{100 * row.differing_ratio:.3f} %"


def _said(seen: Seen) -> str:
    answer = seen.answer
    prob = "" if answer.prob is None else f" at {answer.prob:.4f}"
    dice = "" if answer.dice is None else f", Dice {answer.dice:.3f}"
    return f"{_word(answer.rejected)}es{prob}{dice}".replace("rejectes", "rejects")


def flips_words(name: str, flips: Flips) -> str:
    """One line for the terminal."""
    return (
        f"{name}: {flips.only_a} of A alone, {flips.only_b} of B alone, {flips.both} of both, "
        f"of {flips.pictures}; McNemar p = {flips.p_value:.3g}; B less A "
        f"{100 * flips.rate.difference:+.2f} points ({_points(flips.rate)})"
    )
