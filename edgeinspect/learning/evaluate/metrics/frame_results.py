"""A picture's answer beside its truth, reduced to counts: small enough to keep for thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets.records import VOID
from edgeinspect.learning.evaluate.batches import Source
from edgeinspect.learning.evaluate.metrics.scores import confusion, enlarge
from edgeinspect.learning.evaluate.offline_judge import Judge, Judged


@dataclass(frozen=True, slots=True)
class Defect:
    """One true connected region of a class, and whether the line saw it."""

    class_id: int
    area_px: int
    """Frame pixels."""
    found: bool
    """A found region that rejects by itself lies on at least one of its pixels."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of one picture, and what is true of it."""

    name: str
    defective: bool
    rejected: bool
    reason: str
    prob: float | None
    rank: float
    """See `Judged.rank`."""
    cells: NDArray[np.int64] | None = None
    """(K+1, K+1) pixels of the frame, rows true, columns found; None without truth or segmenter."""
    defect_px: int = 0
    """Defect pixels of the truth, all classes."""
    defects: tuple[Defect, ...] = ()
    score: NDArray[np.float64] | None = None
    """(K,): as `Judged.score`."""
    largest_px: NDArray[np.float64] | None = None
    """(K,): as `Judged.largest_px`."""

    @property
    def dice(self) -> float | None:
        """Dice of all defect pixels, whatever their class; 1 where both are empty."""
        if self.cells is None:
            return None
        true, found = int(self.cells[1:].sum()), int(self.cells[:, 1:].sum())
        return 2 * int(self.cells[1:, 1:].sum()) / (true + found) if true + found else 1.0


def reduce(
    judge: Judge,
    judged: Judged,
    mask: NDArray[np.uint8],
    *,
    name: str,
    defective: bool,
    has_masks: bool = True,
) -> Answer:
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
    defects: tuple[Defect, ...] = ()
    if has_masks and judged.class_map is not None and judged.fatal_map is not None:
        found = enlarge(judged.class_map, judge.stride, *mask.shape)
        cells = confusion([found], mask[None], len(judge.classes))
        fatal = enlarge(judged.fatal_map.view(np.uint8), judge.stride, *mask.shape)
        defects = tuple(_defects(mask, fatal))
    return Answer(
        name=name,
        defective=defective,
        rejected=judged.rejected,
        reason=judged.finding.reason.value,
        prob=judged.prob,
        rank=judged.rank,
        cells=cells,
        defect_px=int(np.count_nonzero((mask > 0) & (mask != VOID))) if has_masks else 0,
        defects=defects,
        score=judged.score,
        largest_px=judged.largest_px,
    )


def _defects(mask: NDArray[np.uint8], fatal: NDArray[np.uint8]) -> Iterator[Defect]:
    for class_id in np.unique(mask):
        if class_id in (0, VOID):
            continue
        binary = (mask == class_id).view(np.uint8)
        count, labels, stats, _centres = cv2.connectedComponentsWithStats(binary, connectivity=8)
        touched = np.zeros(count, np.bool_)
        touched[labels[fatal != 0]] = True
        for index in range(1, count):
            yield Defect(int(class_id), int(stats[index, 4]), bool(touched[index]))


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture while it is in memory: for who wants to draw it."""

    answer: Answer
    judged: Judged
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def answers(
    judge: Judge, source: Source, progress: Callable[[int], None] = lambda done: None
) -> Iterator[Seen]:
    """Judge every picture of a source, one after the other; nothing is kept.

    Raises:
        DataError: A picture cannot be read, or the source's classes are not the judge's.
        EngineFault: An inference failed.
    """
    done = 0
    for pictures in source.batches():
        for index, name in enumerate(pictures.names):
            judged = judge.judge(pictures.images[index])
            mask = pictures.masks[index]
            answer = reduce(
                judge,
                judged,
                mask,
                name=name,
                defective=bool(pictures.defective[index]),
                has_masks=source.has_masks,
            )
            yield Seen(answer, judged, pictures.images[index], mask)
            done += 1
            progress(done)
