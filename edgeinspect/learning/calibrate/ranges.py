"""Activation ranges from one streamed pass over the sample, and the table of them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate.checkpoint import EVERY, Notebook, Report, silent
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.histogram import Histogram
from edgeinspect.learning.calibrate.qdq_placement import scale_of
from edgeinspect.learning.calibrate.range_methods import METHODS, reach
from edgeinspect.learning.calibrate.sessions import Inner
from edgeinspect.system.untrusted_text import TableWriter

STAGE = "ranges"


def collect(
    model: Any,
    tensors: Sequence[str],
    frames: FrameSet,
    notebook: Notebook,
    report: Report = silent,
    every: int = EVERY,
) -> dict[str, Histogram]:
    """Run the sample through the FP32 graph and count the magnitudes of its inner tensors.

    Memory does not grow with the number of frames: one frame's tensors and one histogram
    per tensor are held.

    Args:
        model: onnx.ModelProto.
        tensors: Whose ranges are wanted.
        frames: The sample.
        notebook: Where the state is kept; a state for other tensors is not used.
        every: Frames between two states.

    Raises:
        DataError: There is no frame, or one cannot be read.
        ModelError: A tensor has a value that is not finite.
    """
    if not len(frames):
        raise DataError("the sample is empty", where=frames.where)
    found = {name: Histogram() for name in tensors}
    start = _restore(notebook, found)
    inner = Inner(model, tensors)
    for number in range(start, len(frames)):
        report(STAGE, number, len(frames))
        for name, values in zip(tensors, inner.run(frames.read(number)), strict=True):
            try:
                found[name].add(values)
            except ValueError as error:
                raise ModelError(
                    f"{error} in the tensor '{name}'", where=frames.names[number]
                ) from error
        if (number + 1) % every == 0 or number + 1 == len(frames):
            notebook.keep(STAGE, _state(found, number + 1))
    report(STAGE, len(frames), len(frames))
    return found


def _state(found: Mapping[str, Histogram], done: int) -> dict[str, Any]:
    rows = list(found.values())
    return {
        "done": np.int64(done),
        "tensors": np.array(list(found), np.str_),
        "counts": np.array([row.counts for row in rows], np.int64).reshape(len(rows), -1),
        "bounds": np.array([(row.top, row.low, row.high) for row in rows], np.float64),
    }


def _restore(notebook: Notebook, found: dict[str, Histogram]) -> int:
    """Frames that an earlier run counted, its counts filled in."""
    state = notebook.load(STAGE)
    if state is None or state["tensors"].tolist() != list(found):
        return 0
    for row, name in enumerate(found):
        top, low, high = (float(value) for value in state["bounds"][row])
        found[name] = Histogram(top, low, high, state["counts"][row].copy())
    return int(state["done"])


def reaches(found: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """The magnitude that int8 shall reach, per tensor, by one method."""
    return {name: reach(histogram, method) for name, histogram in found.items()}


def table(found: Mapping[str, Histogram], method: str) -> bytes:
    """The ranges as CSV: what was seen, what each method says, and the scale that was used."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["tensor", "low", "high", "values", *METHODS, "chosen", "scale"])
    for name, histogram in found.items():
        by = {each: reach(histogram, each) for each in METHODS}
        rows.writerow(
            [
                name,
                f"{histogram.low:.6g}",
                f"{histogram.high:.6g}",
                histogram.total,
                *(f"{by[each]:.6g}" for each in METHODS),
                method,
                f"{float(scale_of(by[method])):.9g}",
            ]
        )
    return text.getvalue().encode()
