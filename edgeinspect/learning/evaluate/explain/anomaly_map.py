"""Reads the anomaly map out of a good-parts model's ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.learning.onnx_graphs.session import open_session, run_session
from edgeinspect.system import MODEL_BYTES_MAX, read_regular

MAP_TENSOR = "anomaly_map"
"""Name of the tensor in the graph: float32 (1, h, w), 0 to 1, 0.5 at the threshold."""

AnomalyMapReader = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], float]]
"""Maps uint8 (H, W, C) to (map (h, w), `defect_prob`)."""
_SCORE = "defect_prob"


def open_anomaly_map(path: Path) -> AnomalyMapReader | None:
    """Return a function that computes a model's anomaly map; None if the graph has none.

    The map is no output of the contract, whose `heat_map` is coarser.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ModelError: The graph cannot be read.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx", where=str(path)) from error
    try:
        model = onnx.load_from_string(read_regular(path, MODEL_BYTES_MAX))
    except Exception as error:  # protobuf's own, without a common base
        raise ModelError(f"cannot be read: {error}", where=str(path)) from error
    if not any(MAP_TENSOR in node.output for node in model.graph.node):
        return None
    if all(value.name != MAP_TENSOR for value in model.graph.output):
        model.graph.output.append(onnx.ValueInfoProto(name=MAP_TENSOR))
    session = open_session(model.SerializeToString(), str(path))

    def read(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        feed = {"image": np.ascontiguousarray(image)[None]}
        values, score = run_session(session, feed, [MAP_TENSOR, _SCORE], str(path))
        return np.asarray(values[0], np.float32), float(score[0])

    return read
