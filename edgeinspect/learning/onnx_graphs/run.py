"""Contract graphs over many pictures, under ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_graph(
    path: Path,
    images: NDArray[np.uint8],
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[NDArray[Any]]]:
    """Outputs of a contract graph under ONNX Runtime, one list per picture.

    Args:
        path: The graph.
        images: uint8 (N, H, W, C) of the graph's own size.
        progress: Told how many are done.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    out = []
    for index, image in enumerate(images):
        out.append(session.run(None, {"image": image[None]}))
        progress(index + 1)
    return out
