"""The line's judgement of one picture, off the line: same engines, same decision, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Assessment, Decision, ModelSpec, Pixels
from edgeinspect.errors import ModelError
from edgeinspect.imaging import Blobs, find_blobs
from edgeinspect.pipeline.inspection import DecisionRules, decide_by_gate, decide_by_regions
from edgeinspect.ports import Engine


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """What the models gave on one picture, and what the line makes of it."""

    assessment: Assessment
    prob: float | None
    """The gate's `defect_prob`; None without a gate."""
    class_map: NDArray[np.uint8] | None
    """(h, w) at the output stride, a copy; None without a segmenter."""
    fatal_map: NDArray[np.bool_] | None
    """(h, w): cells of regions that pass their class's score and area."""
    class_scores: NDArray[np.float64] | None
    """(K,): the segmenter's `class_score`."""
    largest_region_px: NDArray[np.float64] | None
    """(K,): largest region of a class, frame pixels."""
    segmenter_score: float = 0.0
    """The segmenter's best score among classes whose largest region passes its least area."""

    @property
    def is_rejected(self) -> bool:
        """True if the line would reject the picture."""
        return self.assessment.decision is Decision.REJECT

    @property
    def score(self) -> float:
        """One number a picture can be ranked by: what ROC and PR curves are drawn over.

        The gate's probability; without a gate the segmenter's `own_rank`.
        """
        if self.prob is not None:
            return self.prob
        return self.segmenter_score


class OfflineInspector:
    """One or both models with the line's rules. For one thread; owns its engines.

    Unlike on the line the segmenter sees every picture, so that its own figures do not
    depend on the gate; the finding is still the line's: below `suspect_at` a picture passes.

    Args:
        gate: Engine of a gate, or None.
        segmenter: Engine of a segmenter, or None; at least one of the two.
        rules: As the line's (`pipeline.settings.decision_rules`).
        label: How reports name it.
        notes: What a reader must know of the thresholds.
    """

    def __init__(
        self,
        *,
        gate: Engine | None,
        segmenter: Engine | None,
        rules: DecisionRules,
        label: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        if gate is None and segmenter is None:
            raise ValueError("a judge needs a model")
        self.gate = gate
        self.segmenter = segmenter
        self.rules = rules
        self.label = label
        self.notes = notes

    @property
    def spec(self) -> ModelSpec:
        """The model that says which frame is taken: the segmenter, or the gate alone."""
        engine = self.segmenter or self.gate
        assert engine is not None
        return engine.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """The segmenter's classes; none for a gate alone."""
        return self.segmenter.spec.classes if self.segmenter else ()

    @property
    def stride(self) -> int:
        """Frame pixels per class-map cell."""
        return self.segmenter.spec.output_stride if self.segmenter else 1

    def inspect(self, image: Pixels) -> InspectionResult:
        """Judge one frame.

        Args:
            image: uint8 (H, W, C), C-contiguous, of the models' size.

        Raises:
            EngineFault: An inference failed.
            ModelError: The gate gave what is no number.
        """
        prob: float | None = None
        finding: Assessment | None = None
        if self.gate is not None:
            prob = float(self.gate.infer(image)[0][0])
            if prob != prob:
                raise ModelError(
                    "gave a probability that is not a number",
                    where=str(self.gate.spec.id),
                    remedy="The line would give NO_VERDICT(engine_error): train or export again",
                )
            finding = decide_by_gate(prob, self.rules)
        if self.segmenter is None:
            assert finding is not None
            return InspectionResult(finding, prob, None, None, None, None)
        outputs: Any = self.segmenter.infer(image)
        class_map, score = outputs[0][0].copy(), outputs[2][0].astype(np.float64)
        blobs = find_blobs(class_map, outputs[1][0], outputs[2][0])
        if finding is None:
            finding = decide_by_regions(prob, blobs, self.rules)
        largest_px = np.zeros(len(score))
        for group in blobs:
            largest_px[group.class_id - 1] = group.largest_px * self.stride**2
        least_px = np.array([self.rules.classes[k + 1].area_px for k in range(len(score))])
        rank = float(np.max(score * (largest_px >= least_px), initial=0.0))
        fatal = self._fatal_map(class_map, blobs)
        return InspectionResult(finding, prob, class_map, fatal, score, largest_px, rank)

    def close(self) -> None:
        """Free the engines."""
        for engine in (self.gate, self.segmenter):
            if engine is not None:
                engine.close()

    def _fatal_map(self, class_map: NDArray[np.uint8], blobs: Sequence[Blobs]) -> NDArray[np.bool_]:
        """Cells of regions that reject by themselves."""
        out = np.zeros(class_map.shape, np.bool_)
        for group in blobs:
            limits = self.rules.classes[group.class_id]
            if group.score < limits.score:
                continue
            binary = (class_map == group.class_id).view(np.uint8)
            _count, labels, stats, _centroids = cv2.connectedComponentsWithStats(
                binary, connectivity=8
            )
            passed = stats[:, cv2.CC_STAT_AREA] * self.stride**2 >= limits.area_px
            passed[0] = False  # the background
            out |= passed[labels]
        return out
