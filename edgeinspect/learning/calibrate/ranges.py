"""Activation ranges: histograms of magnitudes, clip values, and the choice of a method."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate.checkpoint import (
    CHECKPOINT_INTERVAL,
    CalibrationCheckpoint,
    ProgressCallback,
    no_progress,
)
from edgeinspect.learning.calibrate.distance import OutputDistance, distance_from_reference
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.qdq_placement import int8_scale
from edgeinspect.learning.calibrate.sessions import TensorProbe, open_engine, write_temporary_model
from edgeinspect.system import TableWriter

STAGE = "ranges"
_METHODS_STAGE = "methods"
METHODS = ("minmax", "percentile", "entropy", "mse")
PERCENTILE = 99.99
LEVELS = 128
"""Distinct magnitudes of symmetric int8, including 0."""
_MAX_CANDIDATES = 160
_MIN_CLIP_RATIO = 0.02
"""Minimum ratio of a clip value to the largest magnitude."""
BINS = 4096
MIN_TOP = 2.0**-60
"""Minimum of `top`: smaller tensors are rounding noise."""
Counts = NDArray[np.int64]


@dataclass(slots=True)
class ActivationHistogram:
    """Counts of |x| in `BINS` equal bins from 0 to `top`. Not thread-safe.

    `top` is a power of two and doubles when a larger value arrives: neighbouring bins are merged,
    so the counts equal those of a single pass with the final `top`.
    """

    top: float = 0.0
    """0 until the first nonzero value."""
    low: float = float("inf")
    """Smallest signed value."""
    high: float = float("-inf")
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def max_abs(self) -> float:
        """Largest magnitude; 0 if empty."""
        return max(abs(self.low), abs(self.high)) if self.high >= self.low else 0.0

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one frame.

        Raises:
            ValueError: One is NaN or infinite.
        """
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a value is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow()
        magnitudes = np.abs(values.ravel())
        if self.top:
            # A power of two: the product is exact, so all frames are binned alike.
            magnitudes *= np.float32(BINS / self.top)
        places = np.minimum(magnitudes.astype(np.int32), BINS - 1)
        self.counts += np.bincount(places, minlength=BINS)

    def _grow(self) -> None:
        if self.max_abs == 0:
            return
        if self.top == 0:
            self.top = max(MIN_TOP, float(2.0 ** np.ceil(np.log2(self.max_abs))))
            return
        while self.max_abs > self.top:
            folded = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([folded, np.zeros(BINS // 2, np.int64)])
            self.top *= 2


def clip_value(histogram: ActivationHistogram, method: str) -> float:
    """Return the magnitude that 127 represents; 0 for a tensor of zeros.

    Args:
        histogram: Histogram of one tensor.
        method: `minmax`: the largest magnitude. `percentile`: 99.99 % of the values. `entropy`:
            the clip whose 128 levels diverge least from the distribution (Kullback-Leibler, as
            in TensorRT's calibrator). `mse`: the clip with the smallest squared error.
    """
    max_abs = histogram.max_abs
    if max_abs == 0 or method == "minmax":
        return max_abs
    methods = {"percentile": _percentile_clip, "entropy": _entropy_clip, "mse": _mse_clip}
    return float(np.clip(methods[method](histogram), max_abs * _MIN_CLIP_RATIO, max_abs))


def _percentile_clip(histogram: ActivationHistogram) -> float:
    share = np.cumsum(histogram.counts) / histogram.total
    place = int(np.searchsorted(share, PERCENTILE / 100))
    return (place + 1) * histogram.top / BINS


def _clip_candidates(histogram: ActivationHistogram, min_bins: int) -> NDArray[np.int64]:
    """Return clip candidates in bins, ascending to the last used bin."""
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1
    first = min(used, max(min_bins, int(used * _MIN_CLIP_RATIO)))
    return np.unique(np.linspace(first, used, _MAX_CANDIDATES).round().astype(np.int64))


def _mse_clip(histogram: ActivationHistogram) -> float:
    width = histogram.top / BINS
    centres = (np.arange(BINS) + 0.5) * width
    weights = histogram.counts.astype(np.float64)
    best, chosen = np.inf, histogram.max_abs
    for bins in _clip_candidates(histogram, 1)[::-1]:
        limit = min(histogram.max_abs, float(bins) * width)
        step = limit / (LEVELS - 1)
        rounded = np.minimum(np.rint(centres / step), LEVELS - 1) * step
        error = float(weights @ (centres - rounded) ** 2)
        if error < best:  # of equal ones the widest, which is first
            best, chosen = error, limit
    return chosen


def _entropy_clip(histogram: ActivationHistogram) -> float:
    counts = histogram.counts.astype(np.float64)
    # The first bin has the exact zeros of ReLUs, which any scale represents: ignore them.
    counts[0] = counts[1]
    total = counts.sum()
    if total == 0:
        return histogram.max_abs
    best, chosen = np.inf, histogram.max_abs
    for bins in _clip_candidates(histogram, LEVELS)[::-1]:
        divergence = _divergence(counts, int(bins))
        if divergence < best:
            best, chosen = divergence, float(bins) * histogram.top / BINS
    return chosen


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """Return the divergence of the clipped distribution from its 128-level quantisation."""
    true = counts[:bins].copy()
    true[-1] += counts[bins:].sum()
    group = np.minimum(np.arange(bins) * LEVELS // bins, LEVELS - 1)
    filled = (counts[:bins] > 0).astype(np.float64)
    mass = np.bincount(group, counts[:bins], LEVELS)
    size = np.bincount(group, filled, LEVELS)
    image = np.where(filled > 0, (mass / np.maximum(size, 1))[group], 0.0)
    if not image.sum():
        return float("inf")
    true, image = true / true.sum(), image / image.sum()
    # Mass clipped into an empty bin costs a bounded amount instead of infinity.
    image = np.maximum(image, 1e-12)
    held = true > 0
    return float((true[held] * np.log(true[held] / image[held])).sum())


def collect_histograms(
    model: Any,
    tensors: Sequence[str],
    frames: FrameSet,
    checkpoint: CalibrationCheckpoint,
    progress: ProgressCallback = no_progress,
    checkpoint_interval: int = CHECKPOINT_INTERVAL,
) -> dict[str, ActivationHistogram]:
    """Run the sample through the FP32 graph and count the magnitudes of its tensors.

    Memory does not grow with the number of frames: only one frame's tensors and one histogram
    per tensor are held.

    Args:
        model: onnx.ModelProto.
        tensors: Names of the tensors.
        frames: The sample.
        checkpoint: Stores the state; a state of other tensors is ignored.
        progress: Called with stage, done and total.
        checkpoint_interval: Frames between two checkpoints.

    Raises:
        DataError: There are no frames, or one cannot be read.
        ModelError: A tensor has a value that is not finite.
    """
    if not len(frames):
        raise DataError("the sample is empty", where=frames.where)
    histograms = {name: ActivationHistogram() for name in tensors}
    start = _restore(checkpoint, histograms)
    probe = TensorProbe(model, tensors)
    for number in range(start, len(frames)):
        progress(STAGE, number, len(frames))
        for name, values in zip(tensors, probe.run(frames.read(number)), strict=True):
            try:
                histograms[name].add(values)
            except ValueError as error:
                raise ModelError(
                    f"{error} in the tensor '{name}'", where=frames.names[number]
                ) from error
        if (number + 1) % checkpoint_interval == 0 or number + 1 == len(frames):
            checkpoint.save(STAGE, _to_state(histograms, number + 1))
    progress(STAGE, len(frames), len(frames))
    return histograms


def _to_state(histograms: Mapping[str, ActivationHistogram], done: int) -> dict[str, Any]:
    rows = list(histograms.values())
    return {
        "done": np.int64(done),
        "tensors": np.array(list(histograms), np.str_),
        "counts": np.array([row.counts for row in rows], np.int64).reshape(len(rows), -1),
        "bounds": np.array([(row.top, row.low, row.high) for row in rows], np.float64),
    }


def _restore(checkpoint: CalibrationCheckpoint, histograms: dict[str, ActivationHistogram]) -> int:
    """Restore the histograms of an earlier run; return the number of frames done."""
    state = checkpoint.load(STAGE)
    if state is None or state["tensors"].tolist() != list(histograms):
        return 0
    for row, name in enumerate(histograms):
        top, low, high = (float(value) for value in state["bounds"][row])
        histograms[name] = ActivationHistogram(top, low, high, state["counts"][row].copy())
    return int(state["done"])


def clip_values(histograms: Mapping[str, ActivationHistogram], method: str) -> dict[str, float]:
    """Return the clip value of each tensor by one method."""
    return {name: clip_value(histogram, method) for name, histogram in histograms.items()}


def ranges_csv(histograms: Mapping[str, ActivationHistogram], method: str) -> bytes:
    """Return the ranges as CSV: extremes, the clip value of each method, and the scale used."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["tensor", "low", "high", "values", *METHODS, "chosen", "scale"])
    for name, histogram in histograms.items():
        by = {each: clip_value(histogram, each) for each in METHODS}
        rows.writerow(
            [
                name,
                f"{histogram.low:.6g}",
                f"{histogram.high:.6g}",
                histogram.total,
                *(f"{by[each]:.6g}" for each in METHODS),
                method,
                f"{float(int8_scale(by[method])):.9g}",
            ]
        )
    return text.getvalue().encode()


def compare_methods(
    parent: ModelSpec,
    graphs: Mapping[str, Any],
    held_out: FrameSet,
    folder: Path,
    backend: str,
    progress: ProgressCallback = no_progress,
) -> dict[str, OutputDistance]:
    """Return the distance of each method's graph from the FP32 model on held-out frames.

    Labels are not used: the distance from the parent responds to every pixel, while a few labels
    would choose by chance.

    Args:
        parent: The FP32 model.
        graphs: INT8 graph (onnx.ModelProto) by method.
        held_out: Frames that are not in the calibration sample.
        folder: Folder for temporary models.
        backend: Backend that runs them.
        progress: Called with stage, done and total.
    """
    done, total = 0, (len(graphs) + 1) * len(held_out)

    def counted() -> None:
        nonlocal done
        done += 1
        progress(_METHODS_STAGE, done, total)

    expected = run_frames(parent, held_out, backend, counted)
    distances = {}
    for method, graph in graphs.items():
        spec = write_temporary_model(parent, graph, folder, method)
        distances[method] = distance_from_reference(
            parent, run_frames(spec, held_out, backend, counted), expected
        )
    return distances


def best_method(distances: Mapping[str, OutputDistance]) -> str:
    """Return the method with the smallest distance; of equal ones the first."""
    return min(distances, key=lambda method: distances[method].total)


def run_frames(
    spec: ModelSpec, frames: FrameSet, backend: str, on_frame: Callable[[], None] = lambda: None
) -> list[Sequence[NDArray[Any]]]:
    """Return the model's outputs for every frame, copied."""
    engine = open_engine(spec, backend)
    try:
        rows: list[Sequence[NDArray[Any]]] = []
        for number in range(len(frames)):
            rows.append([np.array(each) for each in engine.infer(frames.read(number))])
            on_frame()
        return rows
    finally:
        engine.close()
