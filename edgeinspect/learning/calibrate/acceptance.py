"""Acceptance: compares the INT8 model with its FP32 parent on the same frames, within limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeinspect.domain import Decides, ModelKind, ModelSpec
from edgeinspect.learning.calibrate.acceptance_checks import (
    AcceptanceCheck,
    AcceptanceLimits,
    agreement_checks,
    check_finds,
    check_ranking,
    dice_checks,
    gate_checks,
    rate_checks,
)
from edgeinspect.learning.calibrate.frame_recorder import ChangedFrame, FrameRecorder
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.thresholds import (
    OperatingPoint,
    ThresholdChoice,
    gate_operating_points,
    segmenter_operating_point,
)
from edgeinspect.learning.evaluate import (
    DetectionBySize,
    FrameResult,
    PairedComparison,
    SplitScores,
    build_inspector,
    compare_inspectors,
    recall_by_size,
)
from edgeinspect.ports import Engine


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
    thresholds: ThresholdChoice | None = None
    """At which each of the two decides; None for those of the parent."""
    operating_points: tuple[OperatingPoint, ...] = ()
    """What both reject at old and new thresholds; empty without labels."""

    @property
    def is_accepted(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def remedy(self) -> str:
        """What to do about the failed checks; empty if layers in float may help."""
        return next(
            (check.remedy for check in self.checks if not check.passed and check.remedy), ""
        )

    @property
    def reason(self) -> str:
        """The failed checks as text; empty if all passed."""
        return "; ".join(
            f"{check.name}: {check.words}" for check in self.checks if not check.passed
        )


def evaluate_acceptance(
    parent: Engine,
    child: Engine,
    frames: FrameSet,
    limits: AcceptanceLimits,
    progress: Callable[[int], None] = lambda done: None,
    *,
    thresholds: ThresholdChoice | None = None,
) -> AcceptanceResult:
    """Inspect the same frames with both models and check the differences against limits.

    Args:
        parent: Engine of the FP32 model.
        child: Engine of the INT8 model, on the same backend.
        frames: With labels; without, only agreement is checked.
        limits: Limits of the checks.
        thresholds: How the child's were chosen; each model decides at those of its spec.

    Raises:
        DataError: There are no frames.
        EngineFault: An inference failed.
    """
    spec, labelled = parent.spec, frames.read_label is not None
    inspectors = build_inspector(parent, label="FP32"), build_inspector(child, label="INT8")
    recorder = FrameRecorder(len(inspectors[0].classes), labelled=labelled)
    comparison = compare_inspectors(
        *inspectors, frames.batch_source(), progress=progress, on_pair=recorder.add
    )
    recalls: tuple[DetectionBySize | None, DetectionBySize | None] = (None, None)
    if spec.is_good_parts:
        checks = check_ranking(recorder, labelled=labelled)
    elif not labelled:
        checks = agreement_checks(spec, comparison, recorder, limits)
    elif spec.kind is ModelKind.GATE:
        checks = gate_checks(spec, child.spec, recorder, limits)
    else:
        checks = [*dice_checks(comparison, limits), *rate_checks(comparison, limits, "")]
    if labelled:
        if spec.decides is Decides.DEFECTS:
            found = check_finds(spec, recorder)
            # A parent that finds nothing is the reason for the others too.
            checks = [found, *checks] if found.remedy else [*checks, found]
        recalls = _recall_by_size(recorder.parent_results), _recall_by_size(recorder.child_results)
    return AcceptanceResult(
        tuple(checks),
        comparison.pictures,
        labelled,
        comparison,
        recalls,
        tuple(frame for _weight, frame in sorted(recorder.changed, key=lambda entry: -entry[0])),
        frames.where,
        thresholds,
        _operating_points(spec, recorder, thresholds) if labelled and thresholds else (),
    )


def _operating_points(
    spec: ModelSpec, recorder: FrameRecorder, thresholds: ThresholdChoice
) -> tuple[OperatingPoint, ...]:
    sides = recorder.parent_results, recorder.child_results
    defective = np.array([one.is_defective for one in sides[0]], np.bool_)
    if spec.kind is ModelKind.GATE or spec.is_good_parts:
        before, after = (np.array([one.score for one in side]) for side in sides)
        return gate_operating_points(thresholds, (before, after), defective)
    nothing = np.zeros(len(spec.classes))
    scores = SplitScores(
        np.ones(len(defective)),
        *(
            np.array([nothing if values is None else values for values in rows])
            for rows in (
                [one.class_scores for one in sides[1]],
                [one.largest_region_px for one in sides[1]],
            )
        ),
    )
    before, after = (np.array([one.is_rejected for one in side], np.bool_) for side in sides)
    return (segmenter_operating_point(thresholds, (before, after), defective, scores),)


def _recall_by_size(side: Sequence[FrameResult]) -> DetectionBySize | None:
    """Return recall by defect area, per region if there are masks."""
    rows = [
        (region.area_px, region.is_found, frame)
        for frame, result in enumerate(side)
        for region in result.labelled_regions
    ]
    if not rows:
        return None
    areas, found, groups = zip(*rows, strict=True)
    return recall_by_size(areas, found, groups, "regions")
