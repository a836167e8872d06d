"""Scores, measures and selects frames: to calibrate with, held out, and for layer sensitivity."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Decides, Pixels
from edgeinspect.errors import DataError
from edgeinspect.learning.calibrate.checkpoint import (
    CHECKPOINT_INTERVAL,
    CalibrationCheckpoint,
    ProgressCallback,
    no_progress,
)
from edgeinspect.learning.calibrate.frame_statistics import MEASURES, Values
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.ports import Engine
from edgeinspect.system import TableWriter

STAGE = "scan"
SCORE_EDGES = (0.02, 0.5, 0.98)
UNREADABLE = ""
_MAX_UNREADABLE_RATIO = 0.2


@dataclass(frozen=True, slots=True)
class FrameMetrics:
    """Measurements of every frame."""

    digests: tuple[str, ...]
    """SHA-256 of each image; empty for an unreadable one."""
    values: Values
    """(N, 3): mean and standard deviation of the grey levels, and the gate's score."""

    def strata(self) -> NDArray[np.int64]:
        """Return (N,) strata: by the gate's score and by terciles of the brightness."""
        lighting = np.quantile(self.values[:, 0], (1 / 3, 2 / 3))
        light = np.searchsorted(lighting, self.values[:, 0], "right")
        score = np.searchsorted(SCORE_EDGES, self.values[:, 2], "right")
        return np.asarray(score * 3 + light, np.int64)


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """The selected frames, by their number in the set."""

    calibration: tuple[int, ...]
    held_out: tuple[int, ...]
    """Disjoint from `calibration`; range methods are compared on them."""


def defect_score(engine: Engine, image: Pixels) -> float:
    """Return the probability of a gate or a good-parts model, else the highest class score.

    Of a gate that only tells kinds apart: that of its most probable kind.
    """
    spec, outputs = engine.spec, cast(Any, engine.infer(image))
    if spec.decides is Decides.KINDS:
        return float(np.max(outputs[1][0]))
    if "defect_prob" in spec.outputs:
        return float(outputs[spec.outputs.index("defect_prob")][0])
    return float(np.max(outputs[2][0], initial=0.0))


def measure_frames(
    frames: FrameSet,
    score: Callable[[Pixels], float],
    checkpoint: CalibrationCheckpoint,
    progress: ProgressCallback = no_progress,
    checkpoint_interval: int = CHECKPOINT_INTERVAL,
    stage: str = STAGE,
) -> FrameMetrics:
    """Measure every frame, one at a time.

    Args:
        frames: All frames that may be selected.
        score: Returns the gate's probability of a frame.
        checkpoint: Stores the state.
        progress: Called with stage, done and total.
        checkpoint_interval: Frames between two checkpoints.
        stage: Name of the stage in checkpoint and progress.

    Raises:
        DataError: There are no frames, or more than a fifth cannot be read.
    """
    if not len(frames):
        raise DataError("has no frames", where=frames.where)
    state = checkpoint.load(stage)
    digests: list[str] = []
    first: DataError | None = None
    values: NDArray[np.float64] = np.zeros((len(frames), len(MEASURES)))
    if state is not None and state["values"].shape == values.shape:
        digests, values = state["digests"].tolist(), state["values"].copy()
    for number in range(len(digests), len(frames)):
        progress(stage, number, len(frames))
        try:
            image = frames.read(number)
            values[number] = float(image.mean()), float(image.std()), score(image)
            digests.append(frames.digest(number))
        except DataError as error:
            first = first or error
            digests.append(UNREADABLE)
        if (number + 1) % checkpoint_interval == 0 or number + 1 == len(frames):
            checkpoint.save(stage, {"digests": np.array(digests), "values": values})
    progress(stage, len(frames), len(frames))
    broken = digests.count(UNREADABLE)
    if broken > _MAX_UNREADABLE_RATIO * len(frames):
        raise DataError(
            f"{broken} of {len(frames)} images cannot be read, the first is "
            f"{frames.names[digests.index(UNREADABLE)]}" + (f": it {first.what}" if first else ""),
            where=frames.where,
            remedy=first.remedy if first else "See why with `edgeinspect data inspect`",
        )
    return FrameMetrics(tuple(digests), values)


def select_frames(metrics: FrameMetrics, count: int, held_out: int, seed: int) -> FrameSelection:
    """Select frames so that all strata have equal shares as far as possible.

    Images with the same hash are used once. With too few frames for both, a fifth is held out.

    Args:
        metrics: Measurements of all frames.
        count: Number of frames to calibrate with.
        held_out: Number of frames to compare methods on.
        seed: Seed of the selection.

    Raises:
        DataError: There are fewer than two different frames.
    """
    first: dict[str, int] = {}
    for number, digest in enumerate(metrics.digests):
        if digest != UNREADABLE:
            first.setdefault(digest, number)
    usable = sorted(first.values())
    if len(usable) < 2:
        raise DataError(
            f"{len(usable)} distinct frame(s) are too few to calibrate with",
            remedy="Give some hundred frames of regular production",
        )
    if count + held_out > len(usable):
        held_out = max(1, min(held_out, len(usable) // 5))
        count = min(count, len(usable) - held_out)
    order = _round_robin(metrics.strata(), usable, count + held_out, np.random.default_rng(seed))
    # Every n-th of a round-robin order: both parts have all strata.
    step = len(order) / held_out
    chosen = {int((index + 0.5) * step) for index in range(held_out)}
    calibration = [number for place, number in enumerate(order) if place not in chosen]
    out = [number for place, number in enumerate(order) if place in chosen]
    return FrameSelection(tuple(sorted(calibration)), tuple(sorted(out)))


def _round_robin(
    strata: NDArray[np.int64], usable: Sequence[int], count: int, rng: np.random.Generator
) -> list[int]:
    """Return frames from the strata in round-robin order, shuffled within each stratum."""
    queues = []
    for kind in np.unique(strata[list(usable)]):
        members = [number for number in usable if strata[number] == kind]
        queues.append([members[place] for place in rng.permutation(len(members))])
    order: list[int] = []
    while len(order) < count:
        for queue in queues:
            if queue and len(order) < count:
                order.append(queue.pop())
    return order


def informative_frames(frames: FrameSet, count: int) -> FrameSet:
    """Return evenly spaced frames; of a labelled set, two thirds are defective."""
    numbers = list(range(len(frames)))
    if frames.read_label is None:
        return frames.subset(_evenly_spaced(numbers, count))
    # A few hundred labels are enough to find some of each kind.
    candidates = _evenly_spaced(numbers, min(len(numbers), 40 * count))
    bad = [number for number in candidates if frames.read_label(number).is_defective]
    good = [number for number in candidates if number not in set(bad)]
    bad_count = min(len(bad), max(count - len(good), -(-2 * count // 3)))
    chosen = [*_evenly_spaced(bad, bad_count), *_evenly_spaced(good, count - bad_count)]
    return frames.subset(sorted(chosen))


def _evenly_spaced(numbers: Sequence[int], count: int) -> list[int]:
    """Return `count` evenly spaced numbers."""
    if count >= len(numbers):
        return list(numbers)
    return [numbers[int((index + 0.5) * len(numbers) / count)] for index in range(count)]


def selection_csv(frames: FrameSet, metrics: FrameMetrics, selection: FrameSelection) -> bytes:
    """Return the selection as CSV, one row per frame."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["sha256", "use", *MEASURES, "stratum", "name"])
    strata = metrics.strata()
    uses: list[tuple[str, tuple[int, ...]]] = [
        ("calibration", selection.calibration),
        ("held out", selection.held_out),
    ]
    for use, numbers in uses:
        for number in numbers:
            measured: list[Any] = [f"{value:.5g}" for value in metrics.values[number]]
            rows.writerow(
                [metrics.digests[number], use, *measured, strata[number], frames.names[number]]
            )
    return text.getvalue().encode()
