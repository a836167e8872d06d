"""Grad-CAM from an ONNX graph, without a training library or gradients.

Grad-CAM's weight of a channel is the derivative of the output when that channel is raised
everywhere by the same amount, divided by its cells. Two runs of the graph's tail per channel
give it by central differences.
Source: Selvaraju et al. 2017, equation 1; docs/reference/evaluation.md
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import check_regular

_IMAGE = "image"
_OUTPUT = "defect_prob"
_KINDS_OUTPUT = "class_prob"
_STEP = 0.01
"""Relative to the channel's standard deviation."""
_MIN_CELLS = 4
_RESHAPING = ("Reshape", "Squeeze", "Flatten", "Identity", "Cast", "Unsqueeze", "Slice")


@dataclass(frozen=True, slots=True)
class SplitGraph:
    """A graph split at one tensor that all paths share."""

    tensor: str
    shape: tuple[int, int, int]
    """(channels, height, width)."""
    head: Any
    """Session from the image to the tensor and the probability."""
    tail: Any
    """Session from the tensor to the logits (or the probability, where none are found)."""
    kinds: int = 0
    """Of a gate that tells kinds of defects apart: how many."""

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the tail's output of one image as a vector."""
        return np.ravel(self.tail.run(None, {self.tensor: features})[0]).astype(np.float64)


def split_graph(path: Path) -> SplitGraph | None:
    """Split a gate's graph at its deepest feature map; None without a suitable tensor.

    That is the last tensor (1, C, h, w) with several channels and cells that all paths from
    the image to the output pass through.

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
    logits = _logit_tensor(model.graph, _KINDS_OUTPUT, "Softmax")
    target = logits or _logit_tensor(model.graph, _OUTPUT, "Sigmoid") or _OUTPUT
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        subgraph = _extract_subgraph(onnx, model, inputs, outputs, shapes)
        return ort.InferenceSession(subgraph.SerializeToString(), options, ["CPUExecutionProvider"])

    _batch, channels, height, width = shapes[tensor]
    return SplitGraph(
        tensor,
        (channels, height, width),
        session([_IMAGE], [tensor, _OUTPUT]),
        session([tensor], [target]),
        shapes[_KINDS_OUTPUT][-1] if logits else 0,
    )


def grad_cam(graph: SplitGraph, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Compute which parts of the image raise the gate's probability.

    Args:
        graph: Of the gate.
        image: uint8 (H, W, C).

    Returns:
        (map float32 (h, w), at least 0, in units of the logit's change; the probability).
    """
    features, prob = graph.head.run(None, {_IMAGE: image[None]})
    channels, height, width = graph.shape
    explained = _explained_output(graph, features)
    steps = _STEP * np.maximum(1e-3, features.std(axis=(0, 2, 3)))
    weights = np.empty(channels, np.float32)
    shifted = features.copy()
    for channel, step in enumerate(steps):
        original = shifted[:, channel].copy()
        outputs = []
        for offset in (step, -step):
            shifted[:, channel] = original + np.float32(offset)
            outputs.append(explained(graph.logits(shifted)))
        shifted[:, channel] = original
        weights[channel] = (outputs[0] - outputs[1]) / (2 * step * height * width)
    heat = np.tensordot(weights, features[0], axes=1)
    return np.maximum(heat, 0).astype(np.float32), float(np.ravel(prob)[0])


def _explained_output(
    graph: SplitGraph, features: NDArray[np.float32]
) -> Callable[[NDArray[np.float64]], float]:
    """Return the function of the tail's output that the map explains, as torch's gradients do.

    Of kinds it is the log odds of a defect; of a gate without good images, those of the likeliest
    kind. Probabilities near 1 would hardly change.
    """
    if not graph.kinds:
        return lambda logits: float(logits[0])
    first = graph.logits(features)
    wanted = np.arange(len(first)) > 0  # logit 0 is of good
    if len(first) == graph.kinds:
        wanted = np.arange(len(first)) == first.argmax()
    return lambda logits: float(
        np.logaddexp.reduce(logits[wanted]) - np.logaddexp.reduce(logits[~wanted])
    )


def deepest_bottleneck(graph: Any, shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Return the deepest feature map that all paths from image to output share."""
    on_path = _tensors_on_path(graph)
    readers: dict[str, int] = {}  # remaining readers of each tensor
    for node in graph.node:
        for name in node.input:
            if name in on_path and any(out in on_path for out in node.output):
                readers[name] = readers.get(name, 0) + 1
    live = {_IMAGE}
    deepest: str | None = None
    for node in graph.node:
        if not any(out in on_path for out in node.output):
            continue
        for name in node.input:
            if name in on_path:
                readers[name] -= 1
                if not readers[name]:
                    live.discard(name)
        live.update(out for out in node.output if out in on_path)
        if len(live) == 1 and _is_feature_map(shapes.get(next(iter(live)), ())):
            (deepest,) = live
    return deepest


def _is_feature_map(shape: Sequence[int]) -> bool:
    """Whether a shape is (1, C, h, w) with several channels; (1, H, W, C) is the frame."""
    if len(shape) != 4 or shape[1] < 2 or shape[2] * shape[3] < _MIN_CELLS:
        return False
    return shape[0] == 1 and shape[3] > 1 and shape[2] > 1


def _tensors_on_path(graph: Any) -> set[str]:
    """Return the tensors that depend on the image and that the output depends on."""
    after = {_IMAGE}
    for node in graph.node:
        if any(name in after for name in node.input) and node.op_type not in ("Shape", "Size"):
            after.update(node.output)
    before = {_OUTPUT}
    for node in reversed(graph.node):
        if any(name in before for name in node.output):
            before.update(node.input)
    return after & before


def _logit_tensor(graph: Any, output: str, function: str) -> str | None:
    """Return the input of the sigmoid or softmax that produces an output."""
    producers = {out: node for node in graph.node for out in node.output}
    name = output
    while name in producers:
        node = producers[name]
        if node.op_type == function:
            return str(node.input[0])
        if node.op_type not in _RESHAPING:
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
    """Return the part of a graph between tensors, with its constants."""
    required, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if any(name in required for name in node.output) and not set(node.output) <= set(inputs):
            nodes.append(node)
            required.update(name for name in node.input if name not in inputs)
    declared = {value.name: value for value in (*model.graph.input, *model.graph.output)}

    def value_info(name: str) -> Any:
        if name in declared:
            return declared[name]
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, list(shapes[name]) if name in shapes else None
        )

    graph = onnx.helper.make_graph(
        list(reversed(nodes)),
        "subgraph",
        [value_info(name) for name in inputs],
        [value_info(name) for name in outputs],
        [each for each in model.graph.initializer if each.name in required],
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _import_optional(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(extra, name, where="explain") from error
