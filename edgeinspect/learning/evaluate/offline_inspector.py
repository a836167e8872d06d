"""Inspection of single images offline: the line's engines and decision rules, without deadlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Assessment, Decides, Decision, ModelSpec, Pixels
from edgeinspect.errors import ModelError
from edgeinspect.imaging import Blobs, find_blobs
from edgeinspect.pipeline.inspection import DecisionRules, decide_by_gate, decide_by_regions
from edgeinspect.ports import Engine


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """The models' outputs for one image, and the decision of the line's rules."""

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
    """(K,): area of the largest region of each class in frame pixels."""
    kind_probs: tuple[float, ...] = ()
    """The gate's `class_prob`; empty unless it tells kinds apart."""
    segmenter_score: float = 0.0
    """Highest score among the classes whose largest region reaches its minimum area."""

    @property
    def is_rejected(self) -> bool:
        """Whether the line would reject the image."""
        return self.assessment.decision is Decision.REJECT

    @property
    def score(self) -> float:
        """The number that ROC and PR curves rank images by.

        The gate's probability; without a gate the segmenter's `segmenter_score`.
        """
        return self.segmenter_score if self.prob is None else self.prob


class OfflineInspector:
    """One or both models with the line's rules. For one thread; owns its engines.

    Unlike on the line, the segmenter runs on every image, so that its metrics do not depend
    on the gate. The decision is still the line's: an image below `suspect_at` passes.

    Args:
        gate: Engine of a gate, or None.
        segmenter: Engine of a segmenter, or None; at least one of the two.
        rules: As the line's (`pipeline.inspection.from_config.decision_rules`).
        label: Name in reports.
        notes: Remarks on the thresholds for reports.
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
            raise ValueError("an inspector needs a gate or a segmenter")
        self.gate = gate
        self.segmenter = segmenter
        self.rules = rules
        self.label = label
        self.notes = notes

    @property
    def spec(self) -> ModelSpec:
        """The model whose frame is used: the segmenter, or the gate alone."""
        engine = self.segmenter or self.gate
        assert engine is not None
        return engine.spec

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Its models: one or two."""
        return tuple(engine.spec for engine in (self.gate, self.segmenter) if engine)

    @property
    def classes(self) -> tuple[str, ...]:
        """The segmenter's classes; empty for a gate alone."""
        return self.segmenter.spec.classes if self.segmenter else ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects that the gate tells apart; empty for none."""
        return self.gate.spec.kinds if self.gate else ()

    @property
    def decides(self) -> Decides:
        """What the models can tell apart; `KINDS` only for such a gate without a segmenter."""
        alone = self.gate is not None and self.segmenter is None
        return self.gate.spec.decides if alone and self.gate else Decides.DEFECTS

    @property
    def stride(self) -> int:
        """Frame pixels per class-map cell."""
        return self.segmenter.spec.output_stride if self.segmenter else 1

    def inspect(self, image: Pixels) -> InspectionResult:
        """Run the models on one frame and decide.

        Args:
            image: uint8 (H, W, C), C-contiguous, of the models' size.

        Raises:
            EngineFault: An inference failed.
            ModelError: The gate's probability is NaN.
        """
        prob: float | None = None
        kinds: tuple[float, ...] = ()
        assessment: Assessment | None = None
        if self.gate is not None:
            gate_outputs: Any = self.gate.infer(image)
            prob = float(gate_outputs[0][0])
            kinds = tuple(gate_outputs[1][0].tolist()) if self.kinds else ()
            if math.isnan(prob + sum(kinds)):
                raise ModelError(
                    "gave a probability that is not a number",
                    where=str(self.gate.spec.id),
                    remedy="The line would give NO_VERDICT(engine_error): train or export again",
                )
            assessment = decide_by_gate(prob, self.rules, kinds)
        if self.segmenter is None:
            assert assessment is not None
            return InspectionResult(assessment, prob, None, None, None, None, kinds)
        outputs: Any = self.segmenter.infer(image)
        class_map, scores = outputs[0][0].copy(), outputs[2][0].astype(np.float64)
        blobs = find_blobs(class_map, outputs[1][0], outputs[2][0])
        if assessment is None:
            assessment = decide_by_regions(prob, blobs, self.rules, kinds)
        largest_px = np.zeros(len(scores))
        for group in blobs:
            largest_px[group.class_id - 1] = group.largest_px * self.stride**2
        min_area_px = np.array([self.rules.classes[k + 1].area_px for k in range(len(scores))])
        best = float(np.max(scores * (largest_px >= min_area_px), initial=0.0))
        fatal_map = self._fatal_map(class_map, blobs)
        return InspectionResult(
            assessment, prob, class_map, fatal_map, scores, largest_px, kinds, best
        )

    def close(self) -> None:
        """Free the engines."""
        for engine in (self.gate, self.segmenter):
            if engine is not None:
                engine.close()

    def _fatal_map(self, class_map: NDArray[np.uint8], blobs: Sequence[Blobs]) -> NDArray[np.bool_]:
        """Return the cells of regions that cause a rejection by themselves."""
        out = np.zeros(class_map.shape, np.bool_)
        for group in blobs:
            limits = self.rules.classes[group.class_id]
            if group.score < limits.score:
                continue
            binary = (class_map == group.class_id).view(np.uint8)
            _count, labels, stats, _centroids = cv2.connectedComponentsWithStats(
                binary, connectivity=8
            )
            is_large = stats[:, cv2.CC_STAT_AREA] * self.stride**2 >= limits.area_px
            is_large[0] = False  # the background
            out |= is_large[labels]
        return out
