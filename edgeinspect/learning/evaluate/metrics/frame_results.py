"""A picture's answer beside its truth, reduced to counts: small enough to keep for thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets import VOID
from edgeinspect.learning.evaluate.image_source import ImageSource
from edgeinspect.learning.evaluate.metrics.scores import confusion_matrix, upsample_class_map
from edgeinspect.learning.evaluate.offline_inspector import InspectionResult, OfflineInspector


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """One true connected region of a class, and whether the line saw it."""

    class_id: int
    area_px: int
    """Frame pixels."""
    is_found: bool
    """A found region that rejects by itself lies on at least one of its pixels."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What was said of one picture, and what is true of it."""

    name: str
    is_defective: bool
    is_rejected: bool
    reason: str
    prob: float | None
    score: float
    """See `Judged.score`."""
    confusion: NDArray[np.int64] | None = None
    """(K+1, K+1) pixels of the frame, rows true, columns found; None without truth or segmenter."""
    defect_px: int = 0
    """Defect pixels of the truth, all classes."""
    labelled_regions: tuple[LabelledRegion, ...] = ()
    class_scores: NDArray[np.float64] | None = None
    """(K,): as `Judged.class_scores`."""
    largest_region_px: NDArray[np.float64] | None = None
    """(K,): as `Judged.largest_region_px`."""

    @property
    def dice(self) -> float | None:
        """Dice of all defect pixels, whatever their class; 1 where both are empty."""
        if self.confusion is None:
            return None
        true, found = int(self.confusion[1:].sum()), int(self.confusion[:, 1:].sum())
        return 2 * int(self.confusion[1:, 1:].sum()) / (true + found) if true + found else 1.0


def summarise_frame(
    inspector: OfflineInspector,
    inspection: InspectionResult,
    mask: NDArray[np.uint8],
    *,
    name: str,
    is_defective: bool,
    has_masks: bool = True,
) -> FrameResult:
    """Reduce one judgement to its counts.

    Args:
        judge: Who gave it.
        judged: What it gave.
        mask: uint8 (H, W), class ids of the judge's own classes.
        name: The picture's.
        defective: The picture's label.
        has_masks: False if the data set has labels only; then `mask` says nothing.
    """
    cells: NDArray[np.int64] | None = None
    defects: tuple[LabelledRegion, ...] = ()
    if has_masks and inspection.class_map is not None and inspection.fatal_map is not None:
        found = upsample_class_map(inspection.class_map, inspector.stride, *mask.shape)
        cells = confusion_matrix([found], mask[None], len(inspector.classes))
        fatal = upsample_class_map(
            inspection.fatal_map.view(np.uint8), inspector.stride, *mask.shape
        )
        defects = tuple(_labelled_regions(mask, fatal))
    return FrameResult(
        name=name,
        is_defective=is_defective,
        is_rejected=inspection.is_rejected,
        reason=inspection.assessment.reason.value,
        prob=inspection.prob,
        score=inspection.score,
        confusion=cells,
        defect_px=int(np.count_nonzero((mask > 0) & (mask != VOID))) if has_masks else 0,
        labelled_regions=defects,
        class_scores=inspection.class_scores,
        largest_region_px=inspection.largest_region_px,
    )


def _labelled_regions(
    mask: NDArray[np.uint8], fatal: NDArray[np.uint8]
) -> Iterator[LabelledRegion]:
    for class_id in np.unique(mask):
        if class_id in (0, VOID):
            continue
        binary = (mask == class_id).view(np.uint8)
        count, labels, stats, _centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
        touched = np.zeros(count, np.bool_)
        touched[labels[fatal != 0]] = True
        for index in range(1, count):
            yield LabelledRegion(int(class_id), int(stats[index, 4]), bool(touched[index]))


@dataclass(frozen=True, slots=True)
class FrameSample:
    """A picture while it is in memory: for who wants to draw it."""

    result: FrameResult
    inspection: InspectionResult
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def evaluate_frames(
    inspector: OfflineInspector,
    source: ImageSource,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[FrameSample]:
    """Judge every picture of a source, one after the other; nothing is kept.

    Raises:
        DataError: A picture cannot be read, or the source's classes are not the judge's.
        EngineFault: An inference failed.
    """
    done = 0
    for pictures in source.batches():
        for index, name in enumerate(pictures.names):
            judged = inspector.inspect(pictures.images[index])
            mask = pictures.masks[index]
            answer = summarise_frame(
                inspector,
                judged,
                mask,
                name=name,
                is_defective=bool(pictures.defective[index]),
                has_masks=source.has_masks,
            )
            yield FrameSample(answer, judged, pictures.images[index], mask)
            done += 1
            progress(done)
