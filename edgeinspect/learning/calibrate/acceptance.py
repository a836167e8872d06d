"""Acceptance: compares the INT8 model with its FP32 parent on the same frames, within limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.evaluate import (
    DetectionBySize,
    DiscordantPairs,
    FrameResult,
    FrameSample,
    OfflineInspector,
    PairedComparison,
    build_inspector,
    compare_inspectors,
    compare_results,
    confusion_matrix,
    iou_and_dice,
    recall_by_size,
    wilson_interval,
)
from edgeinspect.ports import Engine

MAX_REPORT_FRAMES = 12


@dataclass(frozen=True, slots=True)
class AcceptanceLimits:
    """How much an INT8 model may lose."""

    dice: float = 0.01
    """Maximum loss of Dice per class, against the labels."""
    significance: float = 0.05
    """An error rate is higher if McNemar's test rejects equality at this level, or if it is above
    the 95 % interval of the parent's."""
    agreement: float = 0.01
    """Without labels: maximum ratio of frames whose verdict may change."""
    agreement_dice: float = 0.95
    """Without labels: minimum Dice of a class against the parent's class map."""
    both_kinds: bool = True
    """Without labels: require good and defective frames. Rounding to half precision changes all
    values alike, so it does not need both."""


@dataclass(frozen=True, slots=True)
class AcceptanceCheck:
    """One metric of both models against its limit."""

    name: str
    fp32: float
    int8: float
    passed: bool
    words: str
    """The limit, and the distance to it."""


@dataclass(frozen=True, slots=True)
class ChangedFrame:
    """A frame whose verdict or class map changed, kept for the report."""

    name: str
    image: NDArray[np.uint8]
    """uint8 (H, W, C)."""
    mask: NDArray[np.uint8] | None
    class_maps: tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]
    """Class maps of FP32 and INT8 at the output stride."""
    rejected: tuple[bool, bool]
    probs: tuple[float | None, float | None]
    is_defective: bool | None
    """None without labels."""


@dataclass(frozen=True, slots=True)
class AcceptanceResult:
    """Whether an INT8 model is accepted, and why not."""

    checks: tuple[AcceptanceCheck, ...]
    frames: int
    is_labelled: bool
    comparison: PairedComparison
    recall_by_size: tuple[DetectionBySize | None, DetectionBySize | None] = (None, None)
    """Recall by defect area of FP32 and INT8."""
    changed_frames: tuple[ChangedFrame, ...] = ()
    where: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The failed checks as text; empty if all passed."""
        return "; ".join(
            f"{check.name}: {check.words}" for check in self.checks if not check.passed
        )


@dataclass(slots=True)
class _ReportFrames:
    """Collects per-frame results during `compare`."""

    parent_results: list[FrameResult] = field(default_factory=list)
    child_results: list[FrameResult] = field(default_factory=list)
    changed: list[tuple[float, ChangedFrame]] = field(default_factory=list)
    confusion_matrix: NDArray[np.int64] | None = None


def evaluate_acceptance(
    parent: Engine,
    child: Engine,
    frames: FrameSet,
    limits: AcceptanceLimits,
    progress: Callable[[int], None] = lambda done: None,
) -> AcceptanceResult:
    """Inspect the same frames with both models and check the differences against limits.

    Args:
        parent: Engine of the FP32 model.
        child: Engine of the INT8 model, on the same backend.
        frames: With labels; without, only agreement is checked.
        limits: Limits of the checks.

    Raises:
        DataError: There are no frames.
        EngineFault: An inference failed.
    """
    labelled = frames.read_label is not None
    judges = build_inspector(parent, label="FP32"), build_inspector(child, label="INT8")
    kept = _ReportFrames()

    def see(a: FrameSample, b: FrameSample, ratio: float | None) -> None:
        _record_frame(kept, judges[0], a, b, ratio or 0.0, labelled=labelled)

    paired = compare_inspectors(*judges, frames.batch_source(), progress=progress, on_pair=see)
    spec = parent.spec
    if not labelled:
        checks = _agreement_checks(spec, paired, kept, limits)
    elif spec.kind is ModelKind.GATE:
        checks = _gate_checks(spec, kept, limits)
    else:
        checks = [*_dice_checks(paired, limits), *_rate_checks(paired, limits, "")]
    changed = sorted(kept.changed, key=lambda entry: -entry[0])[:MAX_REPORT_FRAMES]
    return AcceptanceResult(
        tuple(checks),
        paired.pictures,
        labelled,
        paired,
        (_recall_by_size(kept.parent_results), _recall_by_size(kept.child_results))
        if labelled
        else (None, None),
        tuple(entry[1] for entry in changed),
        frames.where,
    )


def _record_frame(
    report_frames: _ReportFrames,
    inspector: OfflineInspector,
    a: FrameSample,
    b: FrameSample,
    ratio: float,
    *,
    labelled: bool,
) -> None:
    report_frames.parent_results.append(a.result)
    report_frames.child_results.append(b.result)
    maps = a.inspection.class_map, b.inspection.class_map
    if maps[0] is not None and maps[1] is not None and not labelled:
        found = confusion_matrix([maps[1]], maps[0][None], len(inspector.classes))
        report_frames.confusion_matrix = (
            found
            if report_frames.confusion_matrix is None
            else report_frames.confusion_matrix + found
        )
    flipped = a.result.is_rejected != b.result.is_rejected
    weight = 10.0 * flipped + ratio
    if a.result.prob is not None and b.result.prob is not None:
        weight += abs(a.result.prob - b.result.prob)
    if weight == 0 or (
        len(report_frames.changed) >= MAX_REPORT_FRAMES
        and weight <= min(entry[0] for entry in report_frames.changed)
    ):
        return
    changed = ChangedFrame(
        a.result.name,
        a.image.copy(),
        a.mask.copy() if labelled and a.result.confusion is not None else None,
        maps,
        (a.result.is_rejected, b.result.is_rejected),
        (a.result.prob, b.result.prob),
        a.result.is_defective if labelled else None,
    )
    report_frames.changed.append((weight, changed))
    if len(report_frames.changed) > MAX_REPORT_FRAMES:
        report_frames.changed.remove(min(report_frames.changed, key=lambda entry: entry[0]))


def _dice_checks(comparison: PairedComparison, limits: AcceptanceLimits) -> list[AcceptanceCheck]:
    return [
        AcceptanceCheck(
            f"Dice of {row.name}",
            row.a,
            row.b,
            row.difference >= -limits.dice,
            f"{100 * row.difference:+.2f} points (95 % interval {100 * row.low:+.2f} to "
            f"{100 * row.high:+.2f}), at most -{100 * limits.dice:g} is allowed",
        )
        for row in comparison.dice
        if row.name != "mean"
    ]


def _rate_checks(
    comparison: PairedComparison, limits: AcceptanceLimits, suffix: str
) -> list[AcceptanceCheck]:
    pairs = ("escape rate", comparison.escapes), ("overkill rate", comparison.overkills)
    return [_rate_check(name + suffix, flips, limits) for name, flips in pairs if flips is not None]


def _rate_check(name: str, flips: DiscordantPairs, limits: AcceptanceLimits) -> AcceptanceCheck:
    rate = flips.rate
    top = wilson_interval(round(rate.a * flips.pictures), flips.pictures)[1]
    worse = rate.difference > 0 and flips.p_value < limits.significance
    return AcceptanceCheck(
        name,
        rate.a,
        rate.b,
        not worse and rate.b <= top,
        f"{100 * rate.a:.2f} % to {100 * rate.b:.2f} % of {flips.pictures} (only FP32 erred on "
        f"{flips.only_a}, only INT8 on {flips.only_b}, McNemar p = {flips.p_value:.3g}); "
        f"at most {100 * top:.2f} % is allowed",
    )


def _gate_checks(
    spec: ModelSpec, report_frames: _ReportFrames, limits: AcceptanceLimits
) -> list[AcceptanceCheck]:
    """Check a gate's decisions: below `suspect` frames pass; from `degraded` it rejects alone."""
    checks: list[AcceptanceCheck] = []
    for name in ("suspect", "degraded"):
        limit = spec.thresholds.get(name)
        at = float(limit) if isinstance(limit, (int, float)) else 0.5
        sides = [
            [replace(one, is_rejected=(one.prob or 0.0) >= at) for one in side]
            for side in (report_frames.parent_results, report_frames.child_results)
        ]
        paired = compare_results(sides[0], sides[1], [None] * len(sides[0]), rounds=0)
        checks += _rate_checks(paired, limits, f" at `{name}` ({at:g})")
    return checks


def _check_both_kinds(spec: ModelSpec, report_frames: _ReportFrames) -> AcceptanceCheck:
    """Check that unlabelled frames are of both kinds: agreement on one does not cover the other."""
    limit = spec.thresholds.get("suspect")
    at = float(limit) if isinstance(limit, (int, float)) else 0.5
    sides = [
        [(one.prob or 0.0) >= at for one in side]
        for side in (report_frames.parent_results, report_frames.child_results)
    ]
    mine, theirs = (sum(side) / len(side) for side in sides)
    return AcceptanceCheck(
        "frames that the gate finds suspect",
        mine,
        theirs,
        0 < mine < 1,
        f"{sum(sides[0])} of {len(sides[0])} by FP32; frames of both kinds are needed: agreement "
        "does not cover a missing kind. Give --labels, or frames of both kinds",
    )


def _check_classes_found(spec: ModelSpec, matrix: NDArray[np.int64]) -> AcceptanceCheck:
    """Check that the segmenter finds any class: otherwise nothing is compared."""
    mine, theirs = (int((matrix.sum(axis)[1:] > 0).sum()) for axis in (1, 0))
    return AcceptanceCheck(
        "classes that the segmenter finds",
        float(mine),
        float(theirs),
        mine > 0,
        f"{mine} of {len(spec.classes)} by FP32; without any, agreement is meaningless. Give "
        "--labels, or frames with defects",
    )


def _agreement_checks(
    spec: ModelSpec,
    comparison: PairedComparison,
    report_frames: _ReportFrames,
    limits: AcceptanceLimits,
) -> list[AcceptanceCheck]:
    least = 1 - limits.agreement
    checks = [
        AcceptanceCheck(
            "verdicts that agree",
            1.0,
            comparison.agreement_ratio,
            comparison.agreement_ratio >= least,
            f"{100 * comparison.agreement_ratio:.2f} % of {comparison.pictures}, at least "
            f"{100 * least:g} % is required",
        ),
    ]
    if limits.both_kinds and spec.kind is ModelKind.GATE:
        checks.append(_check_both_kinds(spec, report_frames))
    if report_frames.confusion_matrix is not None:
        if limits.both_kinds:
            checks.append(_check_classes_found(spec, report_frames.confusion_matrix))
        _iou, dice = iou_and_dice(report_frames.confusion_matrix)
        there = (report_frames.confusion_matrix.sum(0) + report_frames.confusion_matrix.sum(1)) > 0
        checks += [
            AcceptanceCheck(
                f"Dice of {name} against FP32",
                1.0,
                dice[index],
                dice[index] >= limits.agreement_dice,
                f"{dice[index]:.4f}, at least {limits.agreement_dice:g} is required",
            )
            for index, name in enumerate(spec.classes, start=1)
            if there[index]
        ]
    return checks


def _recall_by_size(side: Sequence[FrameResult]) -> DetectionBySize | None:
    """Return recall by defect area, per region if there are masks."""
    rows = [
        (d.area_px, d.is_found, place)
        for place, one in enumerate(side)
        for d in one.labelled_regions
    ]
    if not rows:
        return None
    areas, found, groups = zip(*rows, strict=True)
    return recall_by_size(areas, found, groups, "regions")
