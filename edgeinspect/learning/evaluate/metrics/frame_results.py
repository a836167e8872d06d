"""The inspection of one image against its label, reduced to counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.datasets import VOID
from edgeinspect.learning.evaluate.image_source import NO_TRUTH, ImageSource, ImageTruth, kind_ids
from edgeinspect.learning.evaluate.metrics.segmentation import confusion_matrix
from edgeinspect.learning.evaluate.offline_inspector import InspectionResult, OfflineInspector

NO_KINDS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LabelledRegion:
    """One connected region of a class in the label mask."""

    class_id: int
    area_px: int
    """Frame pixels."""
    is_found: bool
    """A predicted region that causes a rejection overlaps it by at least one pixel."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Label and inspection result of one image; small enough to hold for thousands."""

    name: str
    is_defective: bool
    is_rejected: bool
    reason: str
    prob: float | None
    score: float
    """See `InspectionResult.score`."""
    confusion: NDArray[np.int64] | None = None
    """(K+1, K+1) frame pixels, rows true, columns predicted; None without mask or segmenter."""
    defect_px: int = 0
    """Defect pixels of the label mask, all classes."""
    labelled_regions: tuple[LabelledRegion, ...] = ()
    class_scores: NDArray[np.float64] | None = None
    """(K,): as `InspectionResult.class_scores`."""
    largest_region_px: NDArray[np.float64] | None = None
    """(K,): as `InspectionResult.largest_region_px`."""
    kind_probs: tuple[float, ...] = ()
    """As `InspectionResult.kind_probs`."""
    unknown_prob: float | None = None
    """As `InspectionResult.unknown_prob`."""
    true_kinds: tuple[int, ...] = ()
    """Ids of the gate's kinds, from 1, that the labels name."""
    true_classes: tuple[str, ...] = ()
    """Names of the defect classes that the labels name, as the data set has them."""
    reject_classes: tuple[str, ...] = ()
    reject_code: int = 0
    split: str = ""
    """`train`, `val`, `test`, or empty."""

    @property
    def dice(self) -> float | None:
        """Dice of all defect pixels regardless of class; 1 where both masks are empty."""
        if self.confusion is None:
            return None
        true, predicted = int(self.confusion[1:].sum()), int(self.confusion[:, 1:].sum())
        total = true + predicted
        return 2 * int(self.confusion[1:, 1:].sum()) / total if total else 1.0


@dataclass(frozen=True, slots=True)
class FrameSample:
    """An image with its label and its inspection, while it is in memory."""

    result: FrameResult
    inspection: InspectionResult
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def inspect_labelled(
    inspector: OfflineInspector,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    *,
    name: str,
    is_defective: bool,
    has_masks: bool = True,
    truth: ImageTruth = NO_TRUTH,
    mask_classes: Sequence[str] = (),
    kinds: Mapping[str, int] = NO_KINDS,
) -> FrameSample:
    """Inspect an image and compare the result with its label.

    Args:
        inspector: Engines and thresholds.
        image: uint8 (H, W, C).
        mask: uint8 (H, W), ids of the inspector's classes.
        name: The image's.
        is_defective: The image's label.
        has_masks: False if the data set labels whole images only; then `mask` is ignored.
        truth: What is known of it beside its mask.
        mask_classes: Names of the ids in the mask.
        kinds: Id of the gate's kind by class name; see `kind_ids`.

    Raises:
        EngineFault: An inference failed.
    """
    inspection = inspector.inspect(image)
    confusion: NDArray[np.int64] | None = None
    regions: tuple[LabelledRegion, ...] = ()
    if has_masks and inspection.class_map is not None and inspection.fatal_map is not None:
        predicted = upsample_class_map(inspection.class_map, inspector.stride, *mask.shape)
        confusion = confusion_matrix([predicted], mask[None], len(inspector.classes))
        fatal = inspection.fatal_map.view(np.uint8)
        fatal = upsample_class_map(fatal, inspector.stride, *mask.shape)
        regions = tuple(_labelled_regions(mask, fatal))
    classes = truth.classes
    if not classes and has_masks and mask_classes:
        present = [int(each) for each in np.unique(mask) if each not in (0, VOID)]
        classes = tuple(mask_classes[each - 1] for each in present)
    assessment = inspection.assessment
    result = FrameResult(
        name=name,
        is_defective=is_defective,
        is_rejected=inspection.is_rejected,
        reason=assessment.reason.value,
        prob=inspection.prob,
        score=inspection.score,
        confusion=confusion,
        defect_px=int(np.count_nonzero((mask > 0) & (mask != VOID))) if has_masks else 0,
        labelled_regions=regions,
        class_scores=inspection.class_scores,
        largest_region_px=inspection.largest_region_px,
        kind_probs=inspection.kind_probs,
        unknown_prob=inspection.unknown_prob,
        true_kinds=tuple(sorted({kinds[each] for each in classes if each in kinds})),
        true_classes=classes,
        reject_classes=assessment.reject_classes,
        reject_code=assessment.reject_code,
        split=truth.split,
    )
    return FrameSample(result, inspection, image, mask)


def evaluate_frames(
    inspector: OfflineInspector,
    source: ImageSource,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[FrameSample]:
    """Inspect every image of a source, one after the other; nothing is stored.

    Raises:
        DataError: An image cannot be read, or the source's classes are not the inspector's.
        EngineFault: An inference failed.
    """
    done = 0
    kinds = kind_ids(source, inspector.kinds)
    for images in source.batches():
        for index, name in enumerate(images.names):
            yield inspect_labelled(
                inspector,
                images.images[index],
                images.masks[index],
                name=name,
                is_defective=bool(images.defective[index]),
                has_masks=source.has_masks,
                truth=source.truth.get(name, NO_TRUTH),
                mask_classes=source.classes,
                kinds=kinds,
            )
            done += 1
            progress(done)


def _labelled_regions(
    mask: NDArray[np.uint8], fatal: NDArray[np.uint8]
) -> Iterator[LabelledRegion]:
    for class_id in np.unique(mask):
        if class_id in (0, VOID):
            continue
        binary = (mask == class_id).view(np.uint8)
        count, labels, stats, _centroids = cv2.connectedComponentsWithStats(binary, connectivity=8)
        is_found = np.zeros(count, np.bool_)
        is_found[labels[fatal != 0]] = True
        for index in range(1, count):
            area_px = int(stats[index, cv2.CC_STAT_AREA])
            yield LabelledRegion(int(class_id), area_px, bool(is_found[index]))
