"""Inserts QuantizeLinear/DequantizeLinear (Q/DQ) by the rules of TensorRT's fusions.

Symmetric int8, zero point 0, float32 scales; weights per output channel, activations per
tensor; on the inputs of Conv and Gemm; of a residual Add on its skip branch only; one scale
per shared tensor; none before a Resize; biases, pre- and post-processing stay in float.
Source: docs/explanation/decisions/0012-calibration.md
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.graph import (
    MIN_QDQ_OPSET,
    GraphIndex,
    copy_model,
    drop_unused_initializers,
    node_attribute,
    opset_version,
)

QMAX = 127
MIN_CHANNELS = 16
"""Convolutions with fewer input or output channels gain nothing in int8 and lose most."""
FIRST_LAYER_MULTIPLE = 8
FLOAT_UNTIL_KEY = "edgeinspect.float_until"
"""In a graph's metadata: a tensor. What computes it stays in float, because the model's maker has
measured that it does not stand int8."""
_PASS_THROUGH_OPS = frozenset({"Relu", "Clip", "LeakyRelu", "MaxPool"})


@dataclass(frozen=True, slots=True)
class QuantizableLayer:
    """One Conv or Gemm, and whether it is quantised."""

    name: str
    """The node's name, or its output's if it has none."""
    op: str
    input: str
    output: str
    weight: str
    inputs: int
    """Input channels, of all groups together."""
    outputs: int
    quantized: bool
    why: str


@dataclass(frozen=True, slots=True)
class QdqPlacement:
    """Where Q/DQ are inserted in one graph."""

    layers: tuple[QuantizableLayer, ...]
    """Every Conv and Gemm in the order of the graph."""
    residual_branches: Mapping[str, str] = field(default_factory=dict)
    """Output of a residual Add to the tensor of its skip branch."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activations that need a scale, in the order of the graph, each once."""
        inputs = [layer.input for layer in self.layers if layer.quantized]
        return tuple(dict.fromkeys([*inputs, *self.residual_branches.values()]))

    @property
    def int8_layers(self) -> tuple[QuantizableLayer, ...]:
        """The layers that run in int8."""
        return tuple(layer for layer in self.layers if layer.quantized)


def plan_qdq(model: Any, keep_float: Collection[str] = ()) -> QdqPlacement:
    """Decide for every layer of a graph whether it is quantised.

    Args:
        model: onnx.ModelProto with batch norms folded; not modified.
        keep_float: Names of layers that stay in float regardless of the rules.

    Raises:
        ModelError: The graph already has Q/DQ, an opset below 19, or lacks a named layer.
    """
    if opset_version(model) < MIN_QDQ_OPSET:
        raise ModelError(
            f"has opset {opset_version(model)}; Q/DQ need {MIN_QDQ_OPSET}",
            remedy="Export it again with opset 19 or above",
        )
    graph = GraphIndex(model)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        raise ModelError("is already quantised", remedy="Calibrate its FP32 parent")
    nodes = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    first = first_conv(graph)
    declared = _declared_float(model, graph)
    usual = tuple(_plan_layer(graph, node, node is first, declared, ()) for node in nodes)
    layers = tuple(_plan_layer(graph, node, node is first, declared, keep_float) for node in nodes)
    unknown = set(keep_float) - {layer.name for layer in layers}
    if unknown:
        raise ModelError(f"has no layer {', '.join(sorted(unknown))}")
    # The skip branch must not depend on the layers kept in float: ranges are collected once,
    # for the placement without them.
    int8 = {item.output for item in layers if item.quantized}
    skips = _residual_branches(graph, {item.output for item in usual if item.quantized}, int8)
    return QdqPlacement(layers, skips)


def _declared_float(model: Any, graph: GraphIndex) -> frozenset[str]:
    """Return the names of the layers that the graph's metadata keep in float.

    Raises:
        ModelError: The metadata name a tensor that the graph does not have.
    """
    tensor = next((e.value for e in model.metadata_props if e.key == FLOAT_UNTIL_KEY), "")
    if not tensor:
        return frozenset()
    if graph.producer(tensor) is None:
        raise ModelError(
            f"has no tensor '{tensor}', which its metadata {FLOAT_UNTIL_KEY} name",
            remedy="Export the model again",
        )
    return frozenset(layer_name(node) for node in graph.ancestors(tensor))


def layer_name(node: Any) -> str:
    """Return the name of a layer in tables and options."""
    return str(node.name or node.output[0])


def first_conv(graph: GraphIndex) -> Any | None:
    """Return the only convolution without another one before it; None if there are several."""
    roots = [
        node
        for node in graph.nodes
        if node.op_type == "Conv"
        and not any(before.op_type == "Conv" for before in graph.ancestors(node.input[0]))
    ]
    return roots[0] if len(roots) == 1 else None


def _plan_layer(
    graph: GraphIndex,
    node: Any,
    is_first: bool,
    declared: Collection[str],
    keep_float: Collection[str],
) -> QuantizableLayer:
    name, weight = layer_name(node), node.input[1]
    inputs = outputs = 0
    why = ""
    if not graph.is_constant(weight):
        why = "weights are not constant"
    elif node.op_type == "Gemm" and (
        node_attribute(node, "transA", 0)
        or node_attribute(node, "alpha", 1.0) != 1.0
        or node_attribute(node, "beta", 1.0) != 1.0
    ):
        why = "Gemm with alpha, beta or transA"
    else:
        inputs, outputs = _channels(graph, node)
        why = _channel_problem(node.op_type, inputs, outputs, is_first)
    if not why and name in declared:
        why = "in float by the model's metadata"
    if not why and name in keep_float:
        why = "kept in float as requested"
    return QuantizableLayer(
        name,
        node.op_type,
        node.input[0],
        node.output[0],
        weight,
        inputs,
        outputs,
        quantized=not why,
        why=why or ("first layer" if is_first else "by the rules"),
    )


def _channels(graph: GraphIndex, node: Any) -> tuple[int, int]:
    shape = graph.constant(node.input[1]).shape
    if node.op_type == "Conv":
        return shape[1] * int(node_attribute(node, "group", 1)), shape[0]
    return (shape[1], shape[0]) if node_attribute(node, "transB", 0) else (shape[0], shape[1])


def _channel_problem(op: str, inputs: int, outputs: int, is_first: bool) -> str:
    if is_first and outputs % FIRST_LAYER_MULTIPLE == 0 and op == "Conv":
        return ""
    if min(inputs, outputs) < MIN_CHANNELS:
        return f"fewer than {MIN_CHANNELS} channels ({inputs} to {outputs})"
    return ""


def _residual_branches(graph: GraphIndex, usual: set[str], int8: set[str]) -> dict[str, str]:
    """Return, for each Add of a quantised layer and another activation, that other branch.

    The layer that fuses with the Add is the one without another consumer and, of two, the one
    with more weights; a strided 1x1 beside two 3x3 is the skip branch. If that layer stays in
    float, so does the Add.

    Args:
        usual: Outputs of the layers that the rules quantise.
        int8: Outputs of the layers that are quantised here.
    """
    skips = {}
    for node in graph.nodes:
        if node.op_type != "Add" or any(graph.is_constant(name) for name in node.input):
            continue
        fusing = [
            name
            for name in node.input
            if name in usual and len(graph.consumers(name)) == 1 and name not in graph.outputs
        ]
        if not fusing or node.input[0] == node.input[1]:
            continue
        main = max(fusing, key=lambda name: _weight_count(graph, name))
        skip = next(name for name in node.input if name != main)
        if main in int8 and _consumed_as_int8(graph, node.output[0], int8):
            skips[node.output[0]] = skip
    return skips


def _weight_count(graph: GraphIndex, output: str) -> int:
    producer = graph.producer(output)
    return 0 if producer is None else int(graph.constant(producer.input[1]).size)


def _consumed_as_int8(graph: GraphIndex, tensor: str, int8: set[str]) -> bool:
    """Return whether a quantised layer consumes a tensor; else int8 saves nothing there."""
    return any(
        _consumed_as_int8(graph, node.output[0], int8)
        if node.op_type in _PASS_THROUGH_OPS
        else node.output[0] in int8
        for node in graph.consumers(tensor)
    )


def insert_qdq(model: Any, placement: QdqPlacement, clip_values: Mapping[str, float]) -> Any:
    """Return the graph with Q/DQ inserted.

    Args:
        model: onnx.ModelProto; not modified.
        placement: Placement of this model.
        clip_values: Magnitude that 127 represents, by activation; 0 counts as 1.

    Returns:
        A new, checked onnx.ModelProto of the same opset.

    Raises:
        ModelError: A clip value is missing, negative or not finite.
    """
    import onnx

    for tensor in placement.tensors:
        value = clip_values.get(tensor)
        if value is None or not np.isfinite(value) or value < 0:
            raise ModelError(f"has no valid clip value for the tensor '{tensor}': {value}")
    quantized = copy_model(model)
    writer = _QdqWriter(quantized)
    for tensor in placement.tensors:
        writer.add_activation(tensor, clip_values[tensor])
    for layer in placement.int8_layers:
        writer.add_weight(layer)
    writer.rewire(placement)
    writer.finish()
    drop_unused_initializers(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


class _QdqWriter:
    """Collects new nodes and constants of a graph, then inserts them."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._graph = GraphIndex(model)
        self._after: dict[str, list[Any]] = {}
        self._before: dict[str, list[Any]] = {}
        self._dequantized: dict[str, str] = {}
        self._constant("qdq_zero", np.array(0, np.int8))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def add_activation(self, tensor: str, max_abs: float) -> None:
        """Add Q and DQ after the tensor's producer, once for all consumers."""
        from onnx import helper

        scale = self._constant(f"{tensor}_scale", int8_scale(max_abs))
        quantized, real = f"{tensor}_int8", f"{tensor}_real"
        self._after[tensor] = [
            helper.make_node(
                "QuantizeLinear",
                [tensor, scale, "qdq_zero"],
                [quantized],
                name=f"{tensor}_quantize",
            ),
            helper.make_node(
                "DequantizeLinear",
                [quantized, scale, "qdq_zero"],
                [real],
                name=f"{tensor}_dequantize",
            ),
        ]
        self._dequantized[tensor] = real

    def add_weight(self, layer: QuantizableLayer) -> None:
        """Add int8 weights and a DQ before the layer."""
        from onnx import helper

        node = self._graph.producer(layer.output)
        assert node is not None
        axis = 0 if layer.op == "Conv" or node_attribute(node, "transB", 0) else 1
        values, scales = quantize_weight(self._graph.constant(layer.weight), axis)
        stem = f"{layer.output}_weight"
        inputs = [
            self._constant(f"{stem}_int8", values),
            self._constant(f"{stem}_scale", scales),
            self._constant(f"{stem}_zero", np.zeros(scales.shape, np.int8)),
        ]
        self._before[layer.output] = [
            helper.make_node(
                "DequantizeLinear", inputs, [f"{stem}_real"], axis=axis, name=f"{stem}_dequantize"
            )
        ]

    def rewire(self, placement: QdqPlacement) -> None:
        """Connect layers and Adds to the dequantised tensors."""
        for layer in placement.int8_layers:
            node = self._graph.producer(layer.output)
            assert node is not None
            node.input[0] = self._dequantized[layer.input]
            node.input[1] = f"{layer.output}_weight_real"
        for output, skip in placement.residual_branches.items():
            node = self._graph.producer(output)
            assert node is not None
            node.input[list(node.input).index(skip)] = self._dequantized[skip]

    def finish(self) -> None:
        """Insert the new nodes in topological order."""
        nodes: list[Any] = []
        for value in self._model.graph.input:
            nodes += self._after.get(value.name, [])
        for node in self._graph.nodes:
            nodes += self._before.get(node.output[0], [])
            nodes.append(node)
            for name in node.output:
                nodes += self._after.get(name, [])
        from onnx import NodeProto

        copies = []
        for node in nodes:
            duplicate = NodeProto()
            duplicate.CopyFrom(node)
            copies.append(duplicate)
        del self._model.graph.node[:]
        self._model.graph.node.extend(copies)


def int8_scale(max_abs: float) -> NDArray[np.float32]:
    """Return the scale at which 127 represents `max_abs`; never 0."""
    step = np.float32(max_abs / QMAX if max_abs > 0 else 1.0 / QMAX)
    return np.asarray(max(step, np.finfo(np.float32).tiny), np.float32)


def quantize_weight(
    weight: NDArray[Any], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights and scales per slice of `axis`; never 0, also for zero slices."""
    others = tuple(each for each in range(weight.ndim) if each != axis)
    reach = np.abs(weight.astype(np.float64)).max(axis=others)
    scales = np.asarray([int8_scale(float(each)) for each in reach], np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = weight.astype(np.float64) / scales.astype(np.float64).reshape(shape)
    return np.clip(np.rint(steps), -QMAX, QMAX).astype(np.int8), scales
