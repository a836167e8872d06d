"""The thresholds of a line, chosen on validation images from the graphs that it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import find_blobs
from edgeinspect.learning.datasets import VOID, ImageArrays
from edgeinspect.learning.evaluate import (
    NO_GATE,
    SplitScores,
    area_candidates,
    choose_class_thresholds,
    choose_gate_thresholds,
    line_metrics,
    summarise_outputs,
)
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train.progress import StageProgress


@dataclass(frozen=True, slots=True)
class LineThresholds:
    """What a line's `decide:` needs."""

    gate: dict[str, float] | None
    """`suspect`, `reject`, `degraded`; None without a gate."""
    classes: dict[str, dict[str, float]]
    """`score` and `area_px` by class; empty without a segmenter."""


@dataclass(frozen=True, slots=True)
class LineGraphs:
    """The exported models of a line."""

    gate: Path | None
    """Folder of the version; None without a gate."""
    segmenter: Path | None
    stride: int = 1
    """Frame pixels per class-map cell."""

    def scores(
        self, images: ImageArrays, stage: str, on_progress: StageProgress
    ) -> tuple[SplitScores, list[list[NDArray[Any]]]]:
        """Run both over images; return the scores, and the segmenter's outputs."""
        count = len(images)
        probs = np.ones(count)
        if self.gate is not None:
            outputs = run_exported(self.gate, images, stage, on_progress)
            probs = np.array([float(output[0][0]) for output in outputs])
        if self.segmenter is None:
            nothing = np.zeros((count, 0))
            return SplitScores(probs, nothing, nothing), []
        outputs = run_exported(self.segmenter, images, stage, on_progress)
        return summarise_outputs(probs, outputs, self.stride), outputs

    def choose(
        self, scores: SplitScores, images: ImageArrays, classes: Sequence[str]
    ) -> LineThresholds:
        """Choose the thresholds on the scores of validation images.

        A gate alone rejects at the threshold that 99 % of the good images are below, as it does
        in a pair when no time is left for the segmenter.
        """
        gate = None
        if self.gate is not None:
            gate = choose_gate_thresholds(scores.probs, images.defective)
        if self.segmenter is None:
            assert gate is not None
            return LineThresholds(dict.fromkeys(gate, gate["degraded"]), {})
        chosen = choose_class_thresholds(
            scores,
            images.defective,
            classes,
            gate or NO_GATE,
            areas_px=area_candidates(smallest_region_px(images)),
            sensitive=True,
        )
        return LineThresholds(gate, chosen)


def measure_line(
    scores: SplitScores, images: ImageArrays, thresholds: LineThresholds
) -> dict[str, Any]:
    """Return what a line with these thresholds rejects; see `evaluate.line_metrics`."""
    found = line_metrics(scores, images.defective, thresholds.gate or NO_GATE, thresholds.classes)
    if thresholds.gate is None or not thresholds.classes:  # a segmenter after a gate sees fewer
        del found["clean_that_are_suspect"]
    return found


def run_exported(
    folder: Path, images: ImageArrays, stage: str, on_progress: StageProgress
) -> list[list[NDArray[Any]]]:
    """Return a version's outputs for each image."""
    return run_graph(
        folder / "model.onnx",
        images.images,
        lambda done: on_progress(stage, done, len(images)),
    )


def smallest_region_px(images: ImageArrays) -> float:
    """Return the area of the smallest labelled defect, by the 5th percentile; 0 without masks.

    A few pixels that slipped off an outline are not a defect.
    """
    areas: list[float] = []
    classes = len(images.classes)
    for mask in images.masks:
        labelled = np.where(mask == VOID, 0, mask).astype(np.uint8)
        counts = np.bincount(labelled.ravel(), minlength=classes + 1)[1 : classes + 1]
        ones = np.ones(classes, np.float32)
        for blobs in find_blobs(labelled, counts.astype(np.float32), ones):
            areas += [float(area) for _x, _y, _width, _height, area in blobs.stats]
    return float(np.quantile(areas, 0.05)) if areas else 0.0
