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
from edgeinspect.pipeline.inspection import (
    DecisionRules,
    decide_by_gate,
    decide_by_regions,
    decide_by_unknown,
)
from edgeinspect.ports import Engine


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """The models' outputs for one image, and the decision of the line's rules."""

    assessment: Assessment
    prob: float | None
    """The gate's `defect_prob`; None without a gate."""
    class_map: NDArray[np.uint8] | None
    """(h, w) at the output stride, a copy; None without a segmenter. Of a good-parts model if
    there is no segmenter."""
    fatal_map: NDArray[np.bool_] | None
    """(h, w): cells of regions that pass their class's score and area."""
    class_scores: NDArray[np.float64] | None
    """(K,): the segmenter's `class_score`."""
    largest_region_px: NDArray[np.float64] | None
    """(K,): area of the largest region of each class in frame pixels."""
    kind_probs: tuple[float, ...] = ()
    """The gate's `class_prob`; empty unless it tells kinds apart."""
    unknown_prob: float | None = None
    """The good-parts model's score; None without one."""
    unknown_map: NDArray[np.uint8] | None = None
    """(h, w) at its own stride, a copy; None without a good-parts model."""
    segmenter_score: float = 0.0
    """Highest score among the classes whose largest region reaches its minimum area."""

    @property
    def is_rejected(self) -> bool:
        """Whether the line would reject the image."""
        return self.assessment.decision is Decision.REJECT

    @property
    def score(self) -> float:
        """The number that ROC and PR curves rank images by.

        The gate's probability; without a gate the segmenter's `segmenter_score`; of a good-parts
        model alone its score.
        """
        if self.prob is not None:
            return self.prob
        if self.unknown_prob is not None and self.class_map is self.unknown_map:
            return self.unknown_prob
        return self.segmenter_score


class OfflineInspector:
    """Some or all models of a line with its rules. For one thread; owns its engines.

    Unlike on the line, each model runs on every image, so that its metrics do not depend
    on the others. The decision is still the line's: an image below `suspect_at` passes, unless
    the good-parts model finds something.

    Args:
        gate: Engine of a gate, or None.
        segmenter: Engine of a segmenter, or None.
        unknown: Engine of a good-parts model, or None; at least one of the three.
        rules: As the line's (`pipeline.inspection.from_config.decision_rules`).
        label: Name in reports.
        notes: Remarks on the thresholds for reports.
    """

    def __init__(
        self,
        *,
        gate: Engine | None,
        segmenter: Engine | None,
        unknown: Engine | None = None,
        rules: DecisionRules,
        label: str,
        notes: tuple[str, ...] = (),
    ) -> None:
        if gate is None and segmenter is None and unknown is None:
            raise ValueError("an inspector needs a model")
        self.gate = gate
        self.segmenter = segmenter
        self.unknown = unknown
        self.rules = rules
        self.label = label
        self.notes = notes

    @property
    def spec(self) -> ModelSpec:
        """The model whose frame is used: the segmenter, or else one of the others."""
        engine = self.segmenter or self.gate or self.unknown
        assert engine is not None
        return engine.spec

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """Its models: one to three."""
        engines = (self.gate, self.segmenter, self.unknown)
        return tuple(engine.spec for engine in engines if engine)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of `mapper`; empty for a gate alone."""
        return self.mapper.spec.classes if self.mapper else ()

    @property
    def mapper(self) -> Engine | None:
        """The model whose class map is compared with labels: the segmenter, else the good-parts
        model.
        """
        return self.segmenter or self.unknown

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects that the gate tells apart; empty for none."""
        return self.gate.spec.kinds if self.gate else ()

    @property
    def decides(self) -> Decides:
        """What the models can tell apart; `KINDS` only for such a gate without a segmenter."""
        alone = self.gate is not None and self.mapper is None
        return self.gate.spec.decides if alone and self.gate else Decides.DEFECTS

    @property
    def stride(self) -> int:
        """Frame pixels per class-map cell."""
        return self.mapper.spec.output_stride if self.mapper else 1

    def inspect(self, image: Pixels) -> InspectionResult:
        """Run the models on one frame and decide.

        Args:
            image: uint8 (H, W, C), C-contiguous, of the models' size.

        Raises:
            EngineFault: An inference failed.
            ModelError: A probability is NaN.
        """
        prob: float | None = None
        kinds: tuple[float, ...] = ()
        assessment: Assessment | None = None
        if self.gate is not None:
            gate_outputs: Any = self.gate.infer(image)
            prob = float(gate_outputs[0][0])
            kinds = tuple(gate_outputs[1][0].tolist()) if self.kinds else ()
            _check_number(prob + sum(kinds), self.gate.spec)
            assessment = decide_by_gate(prob, self.rules, kinds)
        mapped: _MappedClasses | None = None
        if self.segmenter is not None:
            mapped = self._run_segmenter(self.segmenter, image)
            if assessment is None:
                assessment = decide_by_regions(prob, mapped.blobs, self.rules, kinds)
        unknown_prob: float | None = None
        unknown_map: NDArray[np.uint8] | None = None
        if self.unknown is not None:
            outputs: Any = self.unknown.infer(image)
            unknown_prob, unknown_map = float(outputs[3][0]), outputs[0][0].copy()
            _check_number(unknown_prob, self.unknown.spec)
            blobs = find_blobs(unknown_map, outputs[1][0], outputs[2][0])
            if assessment is None or assessment.decision is Decision.PASS:
                assessment = decide_by_unknown(assessment, unknown_prob, blobs, self.rules)
            if mapped is None:
                mapped = self._map_unknown(unknown_map, outputs, blobs, unknown_prob)
        assert assessment is not None
        if mapped is None:
            return InspectionResult(assessment, prob, None, None, None, None, kinds)
        return InspectionResult(
            assessment,
            prob,
            mapped.class_map,
            mapped.fatal_map,
            mapped.scores,
            mapped.largest_px,
            kinds,
            unknown_prob,
            unknown_map,
            mapped.best_score,
        )

    def _run_segmenter(self, segmenter: Engine, image: Pixels) -> _MappedClasses:
        outputs: Any = segmenter.infer(image)
        class_map, scores = outputs[0][0].copy(), outputs[2][0].astype(np.float64)
        blobs = find_blobs(class_map, outputs[1][0], outputs[2][0])
        largest_px = np.zeros(len(scores))
        for group in blobs:
            largest_px[group.class_id - 1] = group.largest_px * self.stride**2
        min_area_px = np.array([self.rules.classes[k + 1].area_px for k in range(len(scores))])
        best = float(np.max(scores * (largest_px >= min_area_px), initial=0.0))
        fatal_map = self._fatal_map(class_map, blobs)
        return _MappedClasses(class_map, fatal_map, scores, largest_px, blobs, best)

    def _map_unknown(
        self, class_map: NDArray[np.uint8], outputs: Any, blobs: Sequence[Blobs], prob: float
    ) -> _MappedClasses:
        """Return the map of a good-parts model without a segmenter beside it."""
        limits = self.rules.unknown
        assert limits is not None
        scores = outputs[2][0].astype(np.float64)
        largest_px = np.array([max([0, *(each.largest_px for each in blobs)])]) * self.stride**2
        fatal_map = np.zeros(class_map.shape, np.bool_)
        if prob >= limits.reject_at:
            fatal_map = _large_regions(class_map, 1, limits.area_px / self.stride**2)
        return _MappedClasses(class_map, fatal_map, scores, largest_px.astype(np.float64), blobs)

    def close(self) -> None:
        """Free the engines."""
        for engine in (self.gate, self.segmenter, self.unknown):
            if engine is not None:
                engine.close()

    def _fatal_map(self, class_map: NDArray[np.uint8], blobs: Sequence[Blobs]) -> NDArray[np.bool_]:
        """Return the cells of regions that cause a rejection by themselves."""
        out = np.zeros(class_map.shape, np.bool_)
        for group in blobs:
            limits = self.rules.classes[group.class_id]
            if group.score < limits.score:
                continue
            out |= _large_regions(class_map, group.class_id, limits.area_px / self.stride**2)
        return out


@dataclass(frozen=True, slots=True)
class _MappedClasses:
    """What a class map says of an image; see `InspectionResult`."""

    class_map: NDArray[np.uint8]
    fatal_map: NDArray[np.bool_]
    scores: NDArray[np.float64]
    largest_px: NDArray[np.float64]
    blobs: Sequence[Blobs]
    best_score: float = 0.0


def _check_number(value: float, spec: ModelSpec) -> None:
    if math.isnan(value):
        raise ModelError(
            "gave a probability that is not a number",
            where=str(spec.id),
            remedy="The line would give NO_VERDICT(engine_error): train or export again",
        )


def _large_regions(
    class_map: NDArray[np.uint8], class_id: int, min_cells: float
) -> NDArray[np.bool_]:
    """Return (h, w): the cells of regions of a class that have at least `min_cells`."""
    binary = (class_map == class_id).view(np.uint8)
    _count, labels, stats, _centroids = cv2.connectedComponentsWithStats(binary, connectivity=8)
    is_large = stats[:, cv2.CC_STAT_AREA] >= min_cells
    is_large[0] = False  # the background
    return np.asarray(is_large[labels])
