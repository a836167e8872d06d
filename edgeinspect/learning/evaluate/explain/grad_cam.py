"""Grad-CAM from an ONNX graph alone: no training library, no gradient engine.

The weight that Grad-CAM gives a channel is the derivative of the output when that channel
is raised everywhere by the same amount, over its cells. So one run of the graph's tail per
channel, each way, gives it exactly up to the step: no gradient is needed.
Source: Selvaraju et al. 2017, equation 1; docs/evaluation.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import check_regular

_IMAGE = "image"
_OUTPUT = "defect_prob"
_STEP = 0.01
"""Of a channel's own spread."""
_MIN_CELLS = 4


@dataclass(frozen=True, slots=True)
class SplitGraph:
    """A graph cut at one tensor that everything flows through."""

    tensor: str
    shape: tuple[int, int, int]
    """(channels, height, width)."""
    head: Any
    """Session from the image to the tensor and the probability."""
    tail: Any
    """Session from the tensor to the logit (or the probability, where none is found)."""


def split_graph(path: Path) -> SplitGraph | None:
    """Cut a gate's graph at its deepest feature map; None if it has no such place.

    The place is the last tensor (1, C, h, w) with several channels and cells through which
    everything that the output knows of the image must flow.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ModelError: The graph cannot be read.
    """
    onnx, ort = _import_optional("onnx", "onnx"), _import_optional("onnxruntime", "cpu")
    try:
        model = onnx.load(str(check_regular(path)))
        shapes = _tensor_shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    except Exception as error:  # protobuf's and onnx's own, without a common base
        raise ModelError(f"cannot be read: {error}", where=str(path)) from error
    tensor = deepest_bottleneck(model.graph, shapes)
    if tensor is None:
        return None
    target = _logit_tensor(model.graph) or _OUTPUT
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        part = _extract_subgraph(onnx, model, inputs, outputs, shapes)
        return ort.InferenceSession(part.SerializeToString(), options, ["CPUExecutionProvider"])

    _one, channels, height, width = shapes[tensor]
    return SplitGraph(
        tensor,
        (channels, height, width),
        session([_IMAGE], [tensor, _OUTPUT]),
        session([tensor], [target]),
    )


def grad_cam(graph: SplitGraph, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Where the gate sees reason to call the picture defective.

    Args:
        cut: Of the gate's graph.
        image: uint8 (H, W, C).

    Returns:
        (map float32 (h, w), at least 0, in units of the logit's change; the probability).
    """
    features, prob = graph.head.run(None, {_IMAGE: image[None]})
    channels, height, width = graph.shape
    steps = _STEP * np.maximum(1e-3, features.std(axis=(0, 2, 3)))
    weights = np.empty(channels, np.float32)
    raised = features.copy()
    for channel, step in enumerate(steps):
        original = raised[:, channel].copy()
        sides = []
        for way in (step, -step):
            raised[:, channel] = original + np.float32(way)
            sides.append(float(np.ravel(graph.tail.run(None, {graph.tensor: raised})[0])[0]))
        raised[:, channel] = original
        weights[channel] = (sides[0] - sides[1]) / (2 * step * height * width)
    found = np.tensordot(weights, features[0], axes=1)
    return np.maximum(found, 0).astype(np.float32), float(np.ravel(prob)[0])


def deepest_bottleneck(graph: Any, shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Name of the deepest feature map that all paths from image to output share."""
    alive = _tensors_on_path(graph)
    left: dict[str, int] = {}  # readers that a live tensor still has
    for node in graph.node:
        for name in node.input:
            if name in alive and any(out in alive for out in node.output):
                left[name] = left.get(name, 0) + 1
    open_now = {_IMAGE}
    found: str | None = None
    for node in graph.node:
        if not any(out in alive for out in node.output):
            continue
        for name in node.input:
            if name in alive:
                left[name] -= 1
                if not left[name]:
                    open_now.discard(name)
        open_now.update(out for out in node.output if out in alive)
        if len(open_now) == 1:
            (only,) = open_now
            shape = shapes.get(only, ())
            if len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] >= _MIN_CELLS:
                found = only if _is_feature_map(shape) else found
    return found


def _is_feature_map(shape: Sequence[int]) -> bool:
    """(1, C, h, w), and not the frame itself as (1, H, W, C)."""
    return shape[0] == 1 and shape[3] > 1 and shape[2] > 1


def _tensors_on_path(graph: Any) -> set[str]:
    """Tensors that depend on the image and that the output depends on."""
    after = {_IMAGE}
    for node in graph.node:
        if any(name in after for name in node.input) and node.op_type not in ("Shape", "Size"):
            after.update(node.output)
    before = {_OUTPUT}
    for node in reversed(graph.node):
        if any(name in before for name in node.output):
            before.update(node.input)
    return after & before


def _logit_tensor(graph: Any) -> str | None:
    """What goes into the sigmoid that makes the probability."""
    makers = {out: node for node in graph.node for out in node.output}
    name = _OUTPUT
    while name in makers:
        node = makers[name]
        if node.op_type == "Sigmoid":
            return str(node.input[0])
        if node.op_type not in ("Reshape", "Squeeze", "Flatten", "Identity", "Cast", "Unsqueeze"):
            return None
        name = node.input[0]
    return None


def _tensor_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    out = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            out[value.name] = tuple(dim.dim_value for dim in dims)
    return out


def _extract_subgraph(
    onnx: Any,
    model: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
) -> Any:
    """The part of a graph between tensors; its constants go along."""
    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if any(name in wanted for name in node.output) and not set(node.output) <= set(inputs):
            nodes.append(node)
            wanted.update(name for name in node.input if name not in inputs)
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}

    def describe(name: str) -> Any:
        if name in known:
            return known[name]
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, list(shapes[name]) if name in shapes else None
        )

    graph = onnx.helper.make_graph(
        list(reversed(nodes)),
        "part",
        [describe(name) for name in inputs],
        [describe(name) for name in outputs],
        [each for each in model.graph.initializer if each.name in wanted],
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _import_optional(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(extra, name, where="explain") from error
