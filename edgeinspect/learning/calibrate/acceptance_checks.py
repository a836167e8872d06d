"""The checks of an acceptance: each compares one metric of both models with its limit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Decides, ModelKind, ModelSpec
from edgeinspect.learning.calibrate.frame_recorder import FrameRecorder
from edgeinspect.learning.calibrate.good_parts import MORE_GOOD_FRAMES, good_parts_checks
from edgeinspect.learning.calibrate.thresholds import gate_threshold
from edgeinspect.learning.evaluate import (
    DiscordantPairs,
    FrameResult,
    PairedComparison,
    compare_results,
    iou_and_dice,
    predicted_kind,
    wilson_interval,
)

_CONSTANT_SPREAD = 1e-4
"""Largest difference of a gate's probabilities that counts as a constant output."""


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
    auc: float = 0.005
    """Good-parts model: maximum loss of the AUC, against the labels."""
    score: float = 0.02
    """Good-parts model without labels: maximum mean difference of the score."""
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
    remedy: str = ""
    """What to do if it failed, where that is not to keep layers in float."""


def check_finds(spec: ModelSpec, recorder: FrameRecorder) -> AcceptanceCheck:
    """Check that both models find defects: two that find none agree, and prove nothing.

    A gate must find some of the defective frames suspect and tell frames apart; a segmenter must
    reject some defective frame at its thresholds.
    """
    sides = recorder.parent_results, recorder.child_results
    bad = [index for index, one in enumerate(sides[0]) if one.is_defective]
    counts = [sum(_finds(spec, side[index]) for index in bad) for side in sides]
    spreads = [max(each) - min(each) for each in ([one.score for one in side] for side in sides)]
    has_score = spec.kind is ModelKind.GATE or spec.is_good_parts
    is_constant = has_score and min(spreads) <= _CONSTANT_SPREAD
    is_parent_blind = bool(bad) and not counts[0]
    is_parent_blind |= has_score and spreads[0] <= _CONSTANT_SPREAD
    words = f"{counts[0]} of {len(bad)} by FP32, {counts[1]} by INT8"
    remedy = ""
    passed = not is_constant and (not bad or min(counts) > 0)
    if is_constant:
        words = "its output is the same for every frame"
    if bad and not counts[0]:
        words += ", at their thresholds"
    if is_parent_blind:
        words += "; a model that finds nothing cannot be compared"
        remedy = (
            "Train it until `edgeinspect evaluate` shows a recall, or lower its thresholds; and "
            "give --data with defective images that it finds"
        )
    total = max(1, len(bad))
    return AcceptanceCheck(
        "defective frames in which anything is found",
        counts[0] / total,
        counts[1] / total,
        passed,
        words,
        remedy,
    )


def _finds(spec: ModelSpec, result: FrameResult) -> bool:
    if spec.kind is ModelKind.GATE:
        return (result.prob or 0.0) >= gate_threshold(spec.thresholds, "suspect")
    if spec.is_good_parts:
        return result.score >= gate_threshold(spec.thresholds, "reject")
    return result.is_rejected


def check_ranking(recorder: FrameRecorder, *, labelled: bool) -> list[AcceptanceCheck]:
    """Check that INT8 ranks the frames as FP32 does; each has a threshold of its own."""
    sides = recorder.parent_results, recorder.child_results
    before, after = (np.array([one.score for one in side]) for side in sides)
    defective = np.array([one.is_defective for one in sides[0]], np.bool_)
    rows = good_parts_checks(before, after, defective if labelled else None)
    checks = [AcceptanceCheck(*row) for row in rows]
    if not checks[0].passed:
        checks[0] = replace(checks[0], remedy=MORE_GOOD_FRAMES)
    return checks


def dice_checks(comparison: PairedComparison, limits: AcceptanceLimits) -> list[AcceptanceCheck]:
    """Check the Dice of each class against the labels."""
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


def rate_checks(
    comparison: PairedComparison, limits: AcceptanceLimits, suffix: str
) -> list[AcceptanceCheck]:
    """Check escape and overkill rate; the suffix is of the checks' names."""
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


def gate_checks(
    spec: ModelSpec, child: ModelSpec, recorder: FrameRecorder, limits: AcceptanceLimits
) -> list[AcceptanceCheck]:
    """Check a gate's decisions: below `suspect` frames pass; from `degraded` it rejects alone.

    Each model decides at its own threshold.
    """
    checks = _kind_checks(spec, recorder, limits)
    if spec.decides is Decides.KINDS:  # it finds every frame defective
        return checks
    for name in ("suspect", "degraded"):
        at, child_at = (gate_threshold(each.thresholds, name) for each in (spec, child))
        sides = [
            [replace(one, is_rejected=(one.prob or 0.0) >= limit) for one in side]
            for side, limit in (
                (recorder.parent_results, at),
                (recorder.child_results, child_at),
            )
        ]
        comparison = compare_results(sides[0], sides[1], [None] * len(sides[0]), rounds=0)
        where = f"{at:g}" if at == child_at else f"{at:g}, INT8 {child_at:g}"
        checks += rate_checks(comparison, limits, f" at `{name}` ({where})")
    return checks


def _kind_checks(
    spec: ModelSpec, recorder: FrameRecorder, limits: AcceptanceLimits
) -> list[AcceptanceCheck]:
    """Check the most probable kind: against the labels, or else against FP32."""
    if not spec.kinds:
        return []
    sides = recorder.parent_results, recorder.child_results
    labelled = [
        tuple(
            replace(
                one,
                is_defective=True,
                is_rejected=predicted_kind(one, spec.decides) == one.true_kinds[0],
            )
            for one in side
            if len(one.true_kinds) == 1
        )
        for side in sides
    ]
    if labelled[0]:
        before, after = labelled
        comparison = compare_results(before, after, [None] * len(before), rounds=0)
        assert comparison.escapes is not None  # an image whose kind is not recognised
        return [_rate_check("kinds not recognised", comparison.escapes, limits)]
    kinds = [[predicted_kind(one, spec.decides) for one in side] for side in sides]
    agreement = float(np.mean(np.array(kinds[0]) == np.array(kinds[1])))
    return [
        AcceptanceCheck(
            "most probable kinds that agree",
            1.0,
            agreement,
            agreement >= 1 - limits.agreement,
            f"{100 * agreement:.2f} % of {len(kinds[0])}, at least "
            f"{100 * (1 - limits.agreement):g} % is required",
        )
    ]


def _check_both_kinds(spec: ModelSpec, recorder: FrameRecorder) -> AcceptanceCheck:
    """Check that unlabelled frames are of both kinds: agreement on one does not cover the other."""
    at = gate_threshold(spec.thresholds, "suspect")
    counts = [
        sum((one.prob or 0.0) >= at for one in side)
        for side in (recorder.parent_results, recorder.child_results)
    ]
    total = len(recorder.parent_results)
    return AcceptanceCheck(
        "frames that the gate finds suspect",
        counts[0] / total,
        counts[1] / total,
        0 < counts[0] < total,
        f"{counts[0]} of {total} by FP32; frames of both kinds are needed: agreement "
        "does not cover a missing kind. Give --data, or frames of both kinds",
    )


def _check_classes_found(spec: ModelSpec, matrix: NDArray[np.int64]) -> AcceptanceCheck:
    """Check that the segmenter finds any class: otherwise nothing is compared."""
    parent, child = (int((matrix.sum(axis)[1:] > 0).sum()) for axis in (1, 0))
    return AcceptanceCheck(
        "classes that the segmenter finds",
        float(parent),
        float(child),
        parent > 0,
        f"{parent} of {len(spec.classes)} by FP32; without any, agreement is meaningless. Give "
        "--data, or frames with defects",
    )


def agreement_checks(
    spec: ModelSpec,
    comparison: PairedComparison,
    recorder: FrameRecorder,
    limits: AcceptanceLimits,
) -> list[AcceptanceCheck]:
    """Check without labels that INT8 finds what FP32 finds, and that there is something."""
    min_agreement = 1 - limits.agreement
    checks = [
        AcceptanceCheck(
            "verdicts that agree",
            1.0,
            comparison.agreement_ratio,
            comparison.agreement_ratio >= min_agreement,
            f"{100 * comparison.agreement_ratio:.2f} % of {comparison.pictures}, at least "
            f"{100 * min_agreement:g} % is required",
        ),
    ]
    checks += _kind_checks(spec, recorder, limits)
    if limits.both_kinds and spec.kind is ModelKind.GATE and spec.decides is Decides.DEFECTS:
        checks.append(_check_both_kinds(spec, recorder))
    matrix = recorder.confusion_matrix
    if matrix is not None:
        if limits.both_kinds:
            checks.append(_check_classes_found(spec, matrix))
        _iou, dice = iou_and_dice(matrix)
        is_present = (matrix.sum(0) + matrix.sum(1)) > 0
        checks += [
            AcceptanceCheck(
                f"Dice of {name} against FP32",
                1.0,
                dice[index],
                dice[index] >= limits.agreement_dice,
                f"{dice[index]:.4f}, at least {limits.agreement_dice:g} is required",
            )
            for index, name in enumerate(spec.classes, start=1)
            if is_present[index]
        ]
    return checks
