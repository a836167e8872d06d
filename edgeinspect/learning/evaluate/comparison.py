"""Two judges on the same pictures: what changed, and whether more than by chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.arrays import Pictures
from edgeinspect.learning.evaluate.batches import Source, for_classes, in_memory
from edgeinspect.learning.evaluate.metrics.frame_results import Answer, Seen, answers, reduce
from edgeinspect.learning.evaluate.metrics.paired_tests import (
    Difference,
    Flips,
    auc_difference,
    flips,
    overlaps,
)
from edgeinspect.learning.evaluate.offline_judge import Judge

NOISE = 5e-4
"""Two runs of one graph on two machines differ by less, in probability and in share of pixels."""


@dataclass(frozen=True, slots=True)
class Differing:
    """One picture on which the two do not say the same."""

    name: str
    defective: bool
    a_rejected: bool
    b_rejected: bool
    a_prob: float | None
    b_prob: float | None
    a_dice: float | None
    b_dice: float | None
    differing_ratio: float | None
    """Share of the frame whose class differs; None without two segmenters."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Everything `compare` found. Differences are B less A."""

    a: str
    b: str
    pictures: int
    defective: int
    escapes: Flips | None
    """None without a defective picture."""
    overkills: Flips | None
    """None without a sound picture."""
    dice: tuple[Difference, ...]
    """Per class over all pixels, then `mean`; empty without two segmenters and masks."""
    iou: tuple[Difference, ...]
    """As `dice`, with the background first."""
    auc: Difference | None
    """After DeLong 1988, paired; None unless both kinds of pictures are there."""
    agreement_ratio: float
    """Share of pictures with the same decision."""
    pixel_agreement_ratio: float | None
    """Share of frame pixels with the same class."""
    largest_prob_difference: float | None
    differing: tuple[Differing, ...]
    """Changed decisions first, then the largest changes of the map or the probability."""
    seed: int
    rounds: int


def compare(
    a: Judge,
    b: Judge,
    pictures: Pictures | Source,
    *,
    seed: int = 1,
    rounds: int = 2000,
    most_differing: int = 200,
    progress: Callable[[int], None] = lambda done: None,
    on_pair: Callable[[Seen, Seen, float | None], None] = lambda a, b, ratio: None,
) -> Paired:
    """Judge the same pictures with both, one picture at a time; nothing large is kept.

    Args:
        a: The reference, as the FP32 graph.
        b: The candidate, as the INT8 graph. Must take A's frame and find A's classes.
        pictures: In memory, or a source that is read once.
        seed: Of the bootstrap.
        rounds: Resamplings of the bootstrap over pictures.
        most_differing: Rows of `Paired.differing`.
        progress: Told how many pictures are done.
        on_pair: Given both judgements of each picture and the share of pixels that differ.

    Raises:
        DataError: There is no picture, or the two cannot be compared.
        EngineFault: An inference failed.
    """
    if (a.spec.shape, a.spec.color) != (b.spec.shape, b.spec.color):
        raise DataError(
            f"{a.label} takes {a.spec.shape} {a.spec.color}, {b.label} takes "
            f"{b.spec.shape} {b.spec.color}",
            remedy="Compare two models of the same frame",
        )
    if a.segmenter and b.segmenter and a.classes != b.classes:
        raise DataError(
            f"{a.label} finds {', '.join(a.classes)}; {b.label} finds {', '.join(b.classes)}",
            remedy="Compare two models of the same classes, in the same order",
        )
    source = pictures if isinstance(pictures, Source) else in_memory(pictures)
    source = for_classes(source, a.classes or b.classes)
    mine: list[Answer] = []
    theirs: list[Answer] = []
    ratios: list[float | None] = []
    for seen in answers(a, source, progress):
        judged = b.judge(seen.image)
        answer = reduce(
            b,
            judged,
            seen.mask,
            name=seen.answer.name,
            defective=seen.answer.defective,
            has_masks=source.has_masks,
        )
        ratio = _map_difference(seen.judged.class_map, judged.class_map, a.stride, b.stride)
        on_pair(seen, Seen(answer, judged, seen.image, seen.mask), ratio)
        mine.append(seen.answer)
        theirs.append(answer)
        ratios.append(ratio)
    return compare_answers(
        mine,
        theirs,
        ratios,
        a=a.label,
        b=b.label,
        classes=a.classes,
        seed=seed,
        rounds=rounds,
        most_differing=most_differing,
    )


def compare_answers(
    mine: Sequence[Answer],
    theirs: Sequence[Answer],
    ratios: Sequence[float | None],
    *,
    a: str = "A",
    b: str = "B",
    classes: Sequence[str] = (),
    seed: int = 1,
    rounds: int = 2000,
    most_differing: int = 200,
) -> Paired:
    """The figures of `compare`, from the answers of both on the same pictures in order.

    Raises:
        DataError: There is no answer, or the pictures are not the same.
    """
    if not mine or [one.name for one in mine] != [one.name for one in theirs]:
        raise DataError("two comparable sets of answers have the same pictures, at least one")
    bad = np.array([one.defective for one in mine], np.bool_)
    reject_a = np.array([one.rejected for one in mine], np.bool_)
    reject_b = np.array([one.rejected for one in theirs], np.bool_)
    dice, iou = overlaps(mine, theirs, classes, seed, rounds)
    known = [one for one in ratios if one is not None]
    probs = [
        abs(one.prob - other.prob)
        for one, other in zip(mine, theirs, strict=True)
        if one.prob is not None and other.prob is not None
    ]
    return Paired(
        a=a,
        b=b,
        pictures=len(mine),
        defective=int(bad.sum()),
        escapes=flips("escape rate", ~reject_a[bad], ~reject_b[bad]) if bad.any() else None,
        overkills=flips("overkill rate", reject_a[~bad], reject_b[~bad]) if not bad.all() else None,
        dice=dice,
        iou=iou,
        auc=auc_difference(
            np.array([one.rank for one in mine]), np.array([one.rank for one in theirs]), bad
        ),
        agreement_ratio=float((reject_a == reject_b).mean()),
        pixel_agreement_ratio=1 - float(np.mean(known)) if known else None,
        largest_prob_difference=max(probs) if probs else None,
        differing=_differing(mine, theirs, ratios)[:most_differing],
        seed=seed,
        rounds=rounds,
    )


def _map_difference(
    mine: NDArray[np.uint8] | None, theirs: NDArray[np.uint8] | None, a: int, b: int
) -> float | None:
    if mine is None or theirs is None:
        return None
    if a != b:  # both to frame pixels
        mine = mine.repeat(a, 0).repeat(a, 1)
        theirs = theirs.repeat(b, 0).repeat(b, 1)
    return float((mine != theirs).mean())


def _differing(
    mine: Sequence[Answer], theirs: Sequence[Answer], ratios: Sequence[float | None]
) -> tuple[Differing, ...]:
    rows = [
        Differing(
            one.name,
            one.defective,
            one.rejected,
            other.rejected,
            one.prob,
            other.prob,
            one.dice,
            other.dice,
            ratio,
        )
        for one, other, ratio in zip(mine, theirs, ratios, strict=True)
        if one.rejected != other.rejected or change(one.prob, other.prob, ratio) > NOISE
    ]
    rows.sort(key=lambda row: (row.a_rejected == row.b_rejected, -_weight(row)))
    return tuple(rows)


def _weight(row: Differing) -> float:
    return change(row.a_prob, row.b_prob, row.differing_ratio)


def change(a_prob: float | None, b_prob: float | None, ratio: float | None) -> float:
    """How far two judgements of a picture lie apart: probability or share of pixels."""
    moved = abs(a_prob - b_prob) if a_prob is not None and b_prob is not None else 0.0
    return max(moved, ratio or 0.0)
