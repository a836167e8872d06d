"""Activation ranges from one streaming pass over the sample, and their CSV table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate.checkpoint import (
    CHECKPOINT_INTERVAL,
    CalibrationCheckpoint,
    ProgressCallback,
    no_progress,
)
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.histogram import Histogram
from edgeinspect.learning.calibrate.qdq_placement import int8_scale
from edgeinspect.learning.calibrate.range_methods import METHODS, clip_value
from edgeinspect.learning.calibrate.sessions import TensorProbe
from edgeinspect.system import TableWriter

STAGE = "ranges"


def collect_histograms(
    model: Any,
    tensors: Sequence[str],
    frames: FrameSet,
    checkpoint: CalibrationCheckpoint,
    progress: ProgressCallback = no_progress,
    checkpoint_interval: int = CHECKPOINT_INTERVAL,
) -> dict[str, Histogram]:
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
    found = {name: Histogram() for name in tensors}
    start = _restore(checkpoint, found)
    inner = TensorProbe(model, tensors)
    for number in range(start, len(frames)):
        progress(STAGE, number, len(frames))
        for name, values in zip(tensors, inner.run(frames.read(number)), strict=True):
            try:
                found[name].add(values)
            except ValueError as error:
                raise ModelError(
                    f"{error} in the tensor '{name}'", where=frames.names[number]
                ) from error
        if (number + 1) % checkpoint_interval == 0 or number + 1 == len(frames):
            checkpoint.save(STAGE, _to_state(found, number + 1))
    progress(STAGE, len(frames), len(frames))
    return found


def _to_state(histograms: Mapping[str, Histogram], done: int) -> dict[str, Any]:
    rows = list(histograms.values())
    return {
        "done": np.int64(done),
        "tensors": np.array(list(histograms), np.str_),
        "counts": np.array([row.counts for row in rows], np.int64).reshape(len(rows), -1),
        "bounds": np.array([(row.top, row.low, row.high) for row in rows], np.float64),
    }


def _restore(checkpoint: CalibrationCheckpoint, histograms: dict[str, Histogram]) -> int:
    """Restore the histograms of an earlier run; return the number of frames done."""
    state = checkpoint.load(STAGE)
    if state is None or state["tensors"].tolist() != list(histograms):
        return 0
    for row, name in enumerate(histograms):
        top, low, high = (float(value) for value in state["bounds"][row])
        histograms[name] = Histogram(top, low, high, state["counts"][row].copy())
    return int(state["done"])


def clip_values(histograms: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """Return the clip value of each tensor by one method."""
    return {name: clip_value(histogram, method) for name, histogram in histograms.items()}


def ranges_csv(histograms: Mapping[str, Histogram], method: str) -> bytes:
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
