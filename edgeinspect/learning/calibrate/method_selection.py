"""Chooses the range method with the smallest distance on held-out frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec
from edgeinspect.learning.calibrate.checkpoint import ProgressCallback, no_progress
from edgeinspect.learning.calibrate.distance import Distance, distance_from_reference
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.sessions import open_engine, write_temporary_model

STAGE = "methods"


def compare_methods(
    parent: ModelSpec,
    graphs: Mapping[str, Any],
    held_out: FrameSet,
    folder: Path,
    backend: str,
    progress: ProgressCallback = no_progress,
) -> dict[str, Distance]:
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
        progress(STAGE, done, total)

    wanted = run_frames(parent, held_out, backend, counted)
    found = {}
    for method, graph in graphs.items():
        spec = write_temporary_model(parent, graph, folder, method)
        found[method] = distance_from_reference(
            parent, run_frames(spec, held_out, backend, counted), wanted
        )
    return found


def best_method(distances: Mapping[str, Distance]) -> str:
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
