"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.learning.onnx_graphs.graph import error_text

FLOAT32_REMEDY = "Export the network in float32 (torch: model.float())"


def open_session(model: bytes | str, where: str) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU.

    Args:
        model: The serialised graph, or a path.
        where: Named in errors.

    Raises:
        ModelError: ONNX Runtime cannot load the graph.
        MissingExtraError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("cpu", "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        standard = "Export it again with standard operators"
        raise ModelError(
            f"ONNX Runtime cannot load it: {error_text(error)}",
            where=where,
            remedy=FLOAT32_REMEDY if "bfloat16" in str(error) else standard,
        ) from error


def run_session(
    session: Any, feed: dict[str, NDArray[Any]], outputs: list[str] | None, where: str
) -> list[Any]:
    """Return the outputs of one inference: arrays, or other ONNX values.

    Raises:
        ModelError: The inference fails.
    """
    try:
        return list(session.run(outputs, feed))
    except Exception as error:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
        raise ModelError(
            f"it does not run on {shapes}: {error_text(error)}",
            where=where,
            remedy="Correct --input-layout, or name with --model-size a size that it takes",
        ) from error


def run_graph(
    path: Path,
    images: NDArray[np.uint8],
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[NDArray[Any]]]:
    """Return the outputs of a contract graph, one list per image.

    Args:
        path: The graph.
        images: uint8 (N, H, W, C) of the graph's own size.
        progress: Called with the number of images done.
    """
    session = open_session(str(path), str(path))
    out = []
    for index, image in enumerate(images):
        out.append(session.run(None, {"image": image[None]}))
        progress(index + 1)
    return out
