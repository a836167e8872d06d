"""Acceptance: the INT8 graph against its FP32 parent on the same frames, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain.model import ModelKind, ModelSpec
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.evaluate.comparison import Paired, compare, compare_answers
from edgeinspect.learning.evaluate.metrics.detection_by_size import Sizes, by_size
from edgeinspect.learning.evaluate.metrics.frame_results import Answer, Seen
from edgeinspect.learning.evaluate.metrics.paired_tests import Flips
from edgeinspect.learning.evaluate.metrics.scores import confusion, iou_and_dice, wilson
from edgeinspect.learning.evaluate.offline_judge import Judge
from edgeinspect.learning.evaluate.open_model import judge_of
from edgeinspect.ports import Engine

MOST_PICTURES = 12


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an INT8 graph may lose."""

    dice: float = 0.01
    """Most that a class may lose of its Dice against the labels."""
    significance: float = 0.05
    """An error rate is higher if McNemar's test says so at this level, or if it lies above
    the 95 % interval of the parent's."""
    agreement: float = 0.01
    """Without labels: most frames whose verdict may change."""
    agreement_dice: float = 0.95
    """Without labels: least Dice of a class against the parent's own map."""
    both_kinds: bool = True
    """Without labels: frames of both kinds are asked for. Rounding to half precision moves
    every value alike, so that it may do without."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of both graphs against its bound."""

    name: str
    fp32: float
    int8: float
    passed: bool
    words: str
    """The bound, and by how much it holds or is passed."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A frame whose verdict (or map) changed, kept for the report."""

    name: str
    image: NDArray[np.uint8]
    """uint8 (H, W, C)."""
    mask: NDArray[np.uint8] | None
    maps: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]
    """Class maps of FP32 and INT8 at the output stride."""
    rejected: tuple[bool, bool]
    probs: tuple[float | None, float | None]
    defective: bool | None
    """None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether an INT8 graph is accepted, and why not."""

    checks: tuple[Check, ...]
    frames: int
    labelled: bool
    paired: Paired
    sizes: tuple[Sizes | None, Sizes | None] = (None, None)
    """Recall by defect area of FP32 and INT8."""
    changed: tuple[Changed, ...] = ()
    where: str = ""

    @property
    def accepted(self) -> bool:
        """True if every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The checks that did not pass, in words; empty if all did."""
        return "; ".join(
            f"{check.name}: {check.words}" for check in self.checks if not check.passed
        )


@dataclass(slots=True)
class _Kept:
    """What `compare` shows on its way past."""

    mine: list[Answer] = field(default_factory=list)
    theirs: list[Answer] = field(default_factory=list)
    changed: list[tuple[float, Changed]] = field(default_factory=list)
    matrix: NDArray[np.int64] | None = None


def accept(
    parent: Engine,
    child: Engine,
    frames: FrameSet,
    bounds: Bounds,
    progress: Callable[[int], None] = lambda done: None,
) -> Acceptance:
    """Judge the same frames with both and hold the difference against the bounds.

    Args:
        parent: The FP32 model's engine.
        child: The INT8 graph's, on the same backend.
        frames: With their truth, or without: then only agreement can be asked for.
        bounds: See there.

    Raises:
        DataError: There is no frame.
        EngineFault: An inference failed.
    """
    labelled = frames.truth is not None
    judges = judge_of(parent, label="FP32"), judge_of(child, label="INT8")
    kept = _Kept()

    def see(a: Seen, b: Seen, ratio: float | None) -> None:
        _see(kept, judges[0], a, b, ratio or 0.0, labelled=labelled)

    paired = compare(*judges, frames.source(), progress=progress, on_pair=see)
    spec = parent.spec
    if not labelled:
        checks = _agreement(spec, paired, kept, bounds)
    elif spec.kind is ModelKind.GATE:
        checks = _gate_checks(spec, kept, bounds)
    else:
        checks = [*_dice_checks(paired, bounds), *_rate_checks(paired, bounds, "")]
    changed = sorted(kept.changed, key=lambda entry: -entry[0])[:MOST_PICTURES]
    return Acceptance(
        tuple(checks),
        paired.pictures,
        labelled,
        paired,
        (_sizes(kept.mine), _sizes(kept.theirs)) if labelled else (None, None),
        tuple(entry[1] for entry in changed),
        frames.where,
    )


def _see(kept: _Kept, judge: Judge, a: Seen, b: Seen, ratio: float, *, labelled: bool) -> None:
    kept.mine.append(a.answer)
    kept.theirs.append(b.answer)
    maps = a.judged.class_map, b.judged.class_map
    if maps[0] is not None and maps[1] is not None and not labelled:
        found = confusion([maps[1]], maps[0][None], len(judge.classes))
        kept.matrix = found if kept.matrix is None else kept.matrix + found
    flipped = a.answer.rejected != b.answer.rejected
    weight = 10.0 * flipped + ratio
    if a.answer.prob is not None and b.answer.prob is not None:
        weight += abs(a.answer.prob - b.answer.prob)
    if weight == 0 or (
        len(kept.changed) >= MOST_PICTURES and weight <= min(entry[0] for entry in kept.changed)
    ):
        return
    changed = Changed(
        a.answer.name,
        a.image.copy(),
        a.mask.copy() if labelled and a.answer.cells is not None else None,
        maps,
        (a.answer.rejected, b.answer.rejected),
        (a.answer.prob, b.answer.prob),
        a.answer.defective if labelled else None,
    )
    kept.changed.append((weight, changed))
    if len(kept.changed) > MOST_PICTURES:
        kept.changed.remove(min(kept.changed, key=lambda entry: entry[0]))


def _dice_checks(paired: Paired, bounds: Bounds) -> list[Check]:
    return [
        Check(
            f"Dice of {row.name}",
            row.a,
            row.b,
            row.difference >= -bounds.dice,
            f"{100 * row.difference:+.2f} points (95 % interval {100 * row.low:+.2f} to "
            f"{100 * row.high:+.2f}), at most -{100 * bounds.dice:g} is allowed",
        )
        for row in paired.dice
        if row.name != "mean"
    ]


def _rate_checks(paired: Paired, bounds: Bounds, suffix: str) -> list[Check]:
    pairs = ("escape rate", paired.escapes), ("overkill rate", paired.overkills)
    return [_rate_check(name + suffix, flips, bounds) for name, flips in pairs if flips is not None]


def _rate_check(name: str, flips: Flips, bounds: Bounds) -> Check:
    rate = flips.rate
    top = wilson(round(rate.a * flips.pictures), flips.pictures)[1]
    worse = rate.difference > 0 and flips.p_value < bounds.significance
    return Check(
        name,
        rate.a,
        rate.b,
        not worse and rate.b <= top,
        f"{100 * rate.a:.2f} % to {100 * rate.b:.2f} % of {flips.pictures} (only FP32 erred on "
        f"{flips.only_a}, only INT8 on {flips.only_b}, McNemar p = {flips.p_value:.3g}); "
        f"at most {100 * top:.2f} % is allowed",
    )


def _gate_checks(spec: ModelSpec, kept: _Kept, bounds: Bounds) -> list[Check]:
    """A gate's two decisions: below `suspect` a frame passes; at `degraded` it rejects alone."""
    checks: list[Check] = []
    for name in ("suspect", "degraded"):
        limit = spec.thresholds.get(name)
        at = float(limit) if isinstance(limit, (int, float)) else 0.5
        sides = [
            [replace(one, rejected=(one.prob or 0.0) >= at) for one in side]
            for side in (kept.mine, kept.theirs)
        ]
        paired = compare_answers(sides[0], sides[1], [None] * len(sides[0]), rounds=0)
        checks += _rate_checks(paired, bounds, f" at `{name}` ({at:g})")
    return checks


def _kinds(spec: ModelSpec, kept: _Kept) -> Check:
    """Without labels, frames of both kinds: agreement on one says nothing of the other."""
    limit = spec.thresholds.get("suspect")
    at = float(limit) if isinstance(limit, (int, float)) else 0.5
    sides = [[(one.prob or 0.0) >= at for one in side] for side in (kept.mine, kept.theirs)]
    mine, theirs = (sum(side) / len(side) for side in sides)
    return Check(
        "frames that the gate finds suspect",
        mine,
        theirs,
        0 < mine < 1,
        f"{sum(sides[0])} of {len(sides[0])} by FP32; there must be some, and others: agreement "
        "says nothing of a kind that is not there. Give --labels, or frames of both kinds",
    )


def _classes_found(spec: ModelSpec, matrix: NDArray[np.int64]) -> Check:
    """The same for a segmenter: of a class that is nowhere, nothing is compared."""
    mine, theirs = (int((matrix.sum(axis)[1:] > 0).sum()) for axis in (1, 0))
    return Check(
        "classes that the segmenter finds",
        float(mine),
        float(theirs),
        mine > 0,
        f"{mine} of {len(spec.classes)} by FP32; without any, agreement says nothing. Give "
        "--labels, or frames with defects",
    )


def _agreement(spec: ModelSpec, paired: Paired, kept: _Kept, bounds: Bounds) -> list[Check]:
    least = 1 - bounds.agreement
    checks = [
        Check(
            "verdicts that agree",
            1.0,
            paired.agreement_ratio,
            paired.agreement_ratio >= least,
            f"{100 * paired.agreement_ratio:.2f} % of {paired.pictures}, at least "
            f"{100 * least:g} % is wanted",
        ),
    ]
    if bounds.both_kinds and spec.kind is ModelKind.GATE:
        checks.append(_kinds(spec, kept))
    if kept.matrix is not None:
        if bounds.both_kinds:
            checks.append(_classes_found(spec, kept.matrix))
        _iou, dice = iou_and_dice(kept.matrix)
        there = (kept.matrix.sum(0) + kept.matrix.sum(1)) > 0
        checks += [
            Check(
                f"Dice of {name} against FP32",
                1.0,
                dice[index],
                dice[index] >= bounds.agreement_dice,
                f"{dice[index]:.4f}, at least {bounds.agreement_dice:g} is wanted",
            )
            for index, name in enumerate(spec.classes, start=1)
            if there[index]
        ]
    return checks


def _sizes(side: Sequence[Answer]) -> Sizes | None:
    """Recall by area of the defects, by region where masks are known."""
    rows = [(d.area_px, d.found, place) for place, one in enumerate(side) for d in one.defects]
    if not rows:
        return None
    areas, found, groups = zip(*rows, strict=True)
    return by_size(areas, found, groups, "regions")
