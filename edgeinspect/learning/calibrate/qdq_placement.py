"""Where Q/DQ go: a small pass of our own, by the rules that TensorRT's fusions ask for.

Symmetric int8, zero point 0, float32 scales; weights per output channel, activations per
tensor; on the inputs of Conv and Gemm; of a residual Add on its skip branch only; one scale
per shared tensor; nothing before a Resize; biases, pre- and post-processing stay float.
Source: docs/decisions/0012-calibration.md
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.graph import (
    MIN_OPSET,
    Graph,
    attribute,
    copy,
    drop_unused,
    opset,
)

QMAX = 127
LEAST_CHANNELS = 16
"""Convolutions with fewer on a side gain nothing in int8, and lose most."""
FIRST_MULTIPLE = 8
_THROUGH = frozenset({"Relu", "Clip", "LeakyRelu", "MaxPool"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One Conv or Gemm, and what was decided about it."""

    name: str
    """The node's name, or its output's where it has none."""
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
class Placement:
    """Where Q/DQ go in one graph."""

    layers: tuple[Layer, ...]
    """Every Conv and Gemm in the graph's order."""
    skips: Mapping[str, str] = field(default_factory=dict)
    """Residual Add (its output) to the tensor on its skip branch."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Activations that need a scale, in the graph's order, each once."""
        wanted = [layer.input for layer in self.layers if layer.quantized]
        return tuple(dict.fromkeys([*wanted, *self.skips.values()]))

    @property
    def quantized(self) -> tuple[Layer, ...]:
        """The layers that run in int8."""
        return tuple(layer for layer in self.layers if layer.quantized)


def decide(model: Any, keep_float: Collection[str] = ()) -> Placement:
    """Decide for every layer of a graph, batch norms folded.

    Args:
        model: onnx.ModelProto, not changed.
        keep_float: Names of layers that stay in float whatever the rules say.

    Raises:
        ModelError: The graph has Q/DQ already, or an opset below 19.
    """
    if opset(model) < MIN_OPSET:
        raise ModelError(
            f"has opset {opset(model)}; Q/DQ need {MIN_OPSET}",
            remedy="Export it again with opset 19 or above",
        )
    graph = Graph(model)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        raise ModelError("is quantized already", remedy="Calibrate its FP32 parent")
    found = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    first = _first_conv(graph)
    usual = tuple(_layer(graph, node, node is first, ()) for node in found)
    layers = tuple(_layer(graph, node, node is first, keep_float) for node in found)
    unknown = set(keep_float) - {layer.name for layer in layers}
    if unknown:
        raise ModelError(f"has no layer {', '.join(sorted(unknown))}")
    # Which branch is the skip must not depend on what is left in float: ranges are collected
    # once, for the usual placement.
    int8 = {item.output for item in layers if item.quantized}
    skips = _skips(graph, {item.output for item in usual if item.quantized}, int8)
    return Placement(layers, skips)


def layer_name(node: Any) -> str:
    """What tables and options call a layer."""
    return str(node.name or node.output[0])


def _first_conv(graph: Graph) -> Any | None:
    """The convolution that no other one feeds, if there is just one."""
    roots = [
        node
        for node in graph.nodes
        if node.op_type == "Conv"
        and not any(before.op_type == "Conv" for before in graph.ancestors(node.input[0]))
    ]
    return roots[0] if len(roots) == 1 else None


def _layer(graph: Graph, node: Any, is_first: bool, keep_float: Collection[str]) -> Layer:
    name, weight = layer_name(node), node.input[1]
    inputs = outputs = 0
    why = ""
    if not graph.is_constant(weight):
        why = "weights are not constant"
    elif node.op_type == "Gemm" and (
        attribute(node, "transA", 0)
        or attribute(node, "alpha", 1.0) != 1.0
        or attribute(node, "beta", 1.0) != 1.0
    ):
        why = "Gemm with alpha, beta or transA"
    else:
        inputs, outputs = _channels(graph, node)
        why = _too_small(node.op_type, inputs, outputs, is_first)
    if not why and name in keep_float:
        why = "left in float on purpose"
    return Layer(
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


def _channels(graph: Graph, node: Any) -> tuple[int, int]:
    shape = graph.constant(node.input[1]).shape
    if node.op_type == "Conv":
        return shape[1] * int(attribute(node, "group", 1)), shape[0]
    return (shape[1], shape[0]) if attribute(node, "transB", 0) else (shape[0], shape[1])


def _too_small(op: str, inputs: int, outputs: int, is_first: bool) -> str:
    if is_first and outputs % FIRST_MULTIPLE == 0 and op == "Conv":
        return ""
    if min(inputs, outputs) < LEAST_CHANNELS:
        return f"fewer than {LEAST_CHANNELS} channels ({inputs} to {outputs})"
    return ""


def _skips(graph: Graph, usual: set[str], int8: set[str]) -> dict[str, str]:
    """For each Add of two activations, one of them a quantized layer's: the other branch.

    The layer that fuses with the Add is the one with no other reader and, of two, the one
    with more weights; a strided 1x1 beside two 3x3 is the skip. If that layer is left in
    float, so is the Add.

    Args:
        usual: Outputs of the layers that the rules quantize.
        int8: Those that are quantized here.
    """
    skips = {}
    for node in graph.nodes:
        if node.op_type != "Add" or any(graph.is_constant(name) for name in node.input):
            continue
        fusing = [
            name
            for name in node.input
            if name in usual and len(graph.users(name)) == 1 and name not in graph.outputs
        ]
        if not fusing or node.input[0] == node.input[1]:
            continue
        main = max(fusing, key=lambda name: _weight_count(graph, name))
        skip = next(name for name in node.input if name != main)
        if main in int8 and _feeds_int8(graph, node.output[0], int8):
            skips[node.output[0]] = skip
    return skips


def _weight_count(graph: Graph, output: str) -> int:
    maker = graph.maker(output)
    return 0 if maker is None else int(graph.constant(maker.input[1]).size)


def _feeds_int8(graph: Graph, tensor: str, int8: set[str]) -> bool:
    """True if what is made of the sum is quantized next; else int8 there saves nothing."""
    for user in graph.users(tensor):
        if user.op_type in _THROUGH:
            if _feeds_int8(graph, user.output[0], int8):
                return True
        elif user.output[0] in int8:
            return True
    return False


def apply(model: Any, placement: Placement, ranges: Mapping[str, float]) -> Any:
    """The graph with Q/DQ where the placement says.

    Args:
        model: onnx.ModelProto, not changed.
        placement: Of this model.
        ranges: Largest magnitude per activation that int8 shall reach; 0 counts as 1.

    Returns:
        A new onnx.ModelProto, checked, opset as before.

    Raises:
        ModelError: A range is missing, negative or not finite.
    """
    import onnx

    for tensor in placement.tensors:
        value = ranges.get(tensor)
        if value is None or not np.isfinite(value) or value < 0:
            raise ModelError(f"has no usable range for the tensor '{tensor}': {value}")
    made = copy(model)
    writer = _Writer(made)
    for tensor in placement.tensors:
        writer.activation(tensor, ranges[tensor])
    for layer in placement.quantized:
        writer.weight(layer)
    writer.rewire(placement)
    writer.finish()
    drop_unused(made)
    onnx.checker.check_model(made, full_check=True)
    return made


class _Writer:
    """Collects new nodes and constants of a graph, then puts them where they belong."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._graph = Graph(model)
        self._after: dict[str, list[Any]] = {}
        self._before: dict[str, list[Any]] = {}
        self._real: dict[str, str] = {}
        self._constant("qdq_zero", np.array(0, np.int8))

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def activation(self, tensor: str, reach: float) -> None:
        """Q and DQ after the tensor's maker, once, whoever reads it."""
        from onnx import helper

        scale = self._constant(f"{tensor}_scale", scale_of(reach))
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
        self._real[tensor] = real

    def weight(self, layer: Layer) -> None:
        """int8 weights and a DQ before the layer."""
        from onnx import helper

        node = self._graph.maker(layer.output)
        assert node is not None
        axis = 0 if layer.op == "Conv" or attribute(node, "transB", 0) else 1
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

    def rewire(self, placement: Placement) -> None:
        """Let layers and Adds read what was dequantized."""
        for layer in placement.quantized:
            node = self._graph.maker(layer.output)
            assert node is not None
            node.input[0] = self._real[layer.input]
            node.input[1] = f"{layer.output}_weight_real"
        for output, skip in placement.skips.items():
            node = self._graph.maker(output)
            assert node is not None
            node.input[list(node.input).index(skip)] = self._real[skip]

    def finish(self) -> None:
        """Put the new nodes into the graph's order."""
        nodes: list[Any] = []
        for value in self._model.graph.input:
            nodes += self._after.get(value.name, [])
        for node in self._graph.nodes:
            nodes += self._before.get(node.output[0], [])
            nodes.append(node)
            for name in node.output:
                nodes += self._after.get(name, [])
        from onnx import NodeProto

        kept = []
        for node in nodes:
            fresh = NodeProto()
            fresh.CopyFrom(node)
            kept.append(fresh)
        del self._model.graph.node[:]
        self._model.graph.node.extend(kept)


def scale_of(reach: float) -> NDArray[np.float32]:
    """The step of symmetric int8 that reaches so far; never 0."""
    step = np.float32(reach / QMAX if reach > 0 else 1.0 / QMAX)
    return np.asarray(max(step, np.finfo(np.float32).tiny), np.float32)


def quantize_weight(
    weight: NDArray[Any], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 weights and their scale per slice of `axis`; an empty slice gets a harmless one."""
    others = tuple(each for each in range(weight.ndim) if each != axis)
    reach = np.abs(weight.astype(np.float64)).max(axis=others)
    scales = np.asarray([scale_of(float(each)) for each in reach], np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = weight.astype(np.float64) / scales.astype(np.float64).reshape(shape)
    return np.clip(np.rint(steps), -QMAX, QMAX).astype(np.int8), scales
