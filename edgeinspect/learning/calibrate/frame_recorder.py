"""What both models found in each frame of the verification, and the frames that changed most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate import FrameResult, FrameSample, confusion_matrix

MAX_REPORT_FRAMES = 12


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


class FrameRecorder:
    """Collects the results of both models, and the frames that changed most."""

    def __init__(self, class_count: int, *, labelled: bool) -> None:
        self.parent_results: list[FrameResult] = []
        self.child_results: list[FrameResult] = []
        self.changed: list[tuple[float, ChangedFrame]] = []
        """Weight and frame, at most `MAX_REPORT_FRAMES`."""
        self.confusion_matrix: NDArray[np.int64] | None = None
        """Pixels by class of FP32 (rows) and INT8, without labels."""
        self._class_count = class_count
        self._labelled = labelled

    def add(self, a: FrameSample, b: FrameSample, differing_ratio: float | None) -> None:
        self.parent_results.append(a.result)
        self.child_results.append(b.result)
        maps = a.inspection.class_map, b.inspection.class_map
        if maps[0] is not None and maps[1] is not None and not self._labelled:
            matrix = confusion_matrix([maps[1]], maps[0][None], self._class_count)
            if self.confusion_matrix is not None:
                matrix += self.confusion_matrix
            self.confusion_matrix = matrix
        weight = differing_ratio or 0.0
        weight += 10.0 * (a.result.is_rejected != b.result.is_rejected)
        for before, after in zip(_scores(a.result), _scores(b.result), strict=True):
            weight += abs(before - after)
        is_full = len(self.changed) >= MAX_REPORT_FRAMES
        lightest = min(self.changed, key=lambda entry: entry[0], default=None)
        if weight == 0 or (is_full and lightest is not None and weight <= lightest[0]):
            return
        if is_full and lightest is not None:
            self.changed.remove(lightest)
        frame = ChangedFrame(
            a.result.name,
            a.image.copy(),
            a.mask.copy() if self._labelled and a.result.confusion is not None else None,
            maps,
            (a.result.is_rejected, b.result.is_rejected),
            (a.result.prob, b.result.prob),
            a.result.is_defective if self._labelled else None,
        )
        self.changed.append((weight, frame))


def _scores(result: FrameResult) -> list[float]:
    """Return the probabilities of an image, as many for both models."""
    single = [each for each in (result.prob, result.unknown_prob) if each is not None]
    return [*single, *result.kind_probs]
