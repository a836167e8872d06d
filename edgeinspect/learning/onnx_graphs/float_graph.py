"""An ONNX graph seen by who makes and who reads what, and its rewriting to two float types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import ModelError

if TYPE_CHECKING:
    import onnx

FLOAT32_INPUTS = {"Resize": frozenset({1, 2})}
"""Inputs that stay float32 whatever the node's type, by place."""
SUFFIX_FP16 = "/fp16"
SUFFIX_FP32 = "/fp32"
_FP16_MAX = float(np.finfo(np.float16).max)


class FloatGraph:
    """A copy of a graph, indexed. For one thread; `rewrite` is called once.

    Args:
        model: Is copied.

    Raises:
        ModelError: Shape inference, which tells the tensors' types, refuses the graph.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        _constants_to_initializers(self.model.graph)
        self.name = str(self.model.graph.name)
        self.nodes: list[Any] = list(self.model.graph.node)
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._types = _tensor_types(self.model)
        self._producer_of = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self._consumers_of: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self._consumers_of.setdefault(name, []).append(index)
        inputs = {value.name for value in self.model.graph.input} - self._constants.keys()
        self.input_dependent: set[int] = set()
        """Nodes whose result depends on an input of the graph."""
        for index, node in enumerate(self.nodes):  # a graph is sorted
            known = inputs.intersection(node.input)
            if known or any(i in self.input_dependent for i in self.producers(index)):
                self.input_dependent.add(index)

    def producers(self, index: int) -> list[int]:
        """The nodes whose results a node reads."""
        names = self.nodes[index].input
        return sorted({self._producer_of[name] for name in names if name in self._producer_of})

    def consumers(self, index: int) -> list[int]:
        """The nodes that read a node's results."""
        return sorted(
            {i for name in self.nodes[index].output for i in self._consumers_of.get(name, ())}
        )

    def is_float32(self, index: int) -> bool:
        """Whether a node gives float32."""
        return any(self._is_float32(name) for name in self.nodes[index].output)

    def constant_fits_fp16(self, index: int, input_index: int, max_relative_error: float) -> bool:
        """Whether half can hold the constant that a node reads at `place`.

        Args:
            index: The node.
            place: Which input; one that is no float32 constant is always held.
            worst_error: Relative error allowed for any value that is not 0.
        """
        names = self.nodes[index].input
        tensor = self._constants.get(names[input_index]) if input_index < len(names) else None
        if tensor is None or not self._is_float32(tensor.name):
            return True
        values = _array(tensor)
        if not np.all(np.abs(values) <= _FP16_MAX):  # false for NaN, too
            return False
        wanted = values[values != 0].astype(np.float64)
        got = wanted.astype(np.float16).astype(np.float64)
        return bool(np.all(np.abs(got - wanted) <= max_relative_error * np.abs(wanted)))

    def to_mixed_precision(self, fp16_nodes: set[int]) -> int:
        """Make the float32 tensors of the nodes `half` float16; returns the casts put in.

        Every edge between the two kinds gets a cast, one for all its readers; a constant
        that both kinds read exists twice. Inputs and outputs of the graph keep their type.
        """
        import onnx

        rewriting = _GraphRewriter(self, fp16_nodes)
        for index in range(len(self.nodes)):
            rewriting.append_node(index)
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(rewriting.nodes)
        del graph.value_info[:]
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        halves = [
            onnx.numpy_helper.from_array(_array(self._constants[name]).astype(np.float16), new)
            for name, new in rewriting.fp16_constants.items()
        ]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *halves])
        return rewriting.cast_count

    def is_graph_output(self, name: str) -> bool:
        """Whether a tensor is an output of the graph."""
        return any(value.name == name for value in self.model.graph.output)

    def tensor_source(self, name: str) -> str:
        """`constant`, `made` or `given` (an input) for a float32 tensor, else empty."""
        if not name or not self._is_float32(name):
            return ""
        return (
            "constant"
            if name in self._constants
            else "made"
            if name in self._producer_of
            else "given"
        )

    def producer(self, name: str) -> int:
        """The node that makes a tensor; -1 for an input of the graph."""
        return self._producer_of.get(name, -1)

    def _is_float32(self, name: str) -> bool:
        import onnx

        return bool(self._types.get(name) == onnx.TensorProto.FLOAT)


class _GraphRewriter:
    """The new list of nodes as it grows."""

    def __init__(self, graph: FloatGraph, half: set[int]) -> None:
        self.graph = graph
        self.fp16_nodes = half
        self.nodes: list[Any] = []
        self.fp16_constants: dict[str, str] = {}
        """A float32 constant to its twin in half."""
        self.cast_count = 0
        self._cast_names: dict[tuple[str, bool], str] = {}

    def append_node(self, index: int) -> None:
        """Append a node, before it the casts that its inputs need."""
        import onnx

        node = onnx.NodeProto()
        node.CopyFrom(self.graph.nodes[index])
        is_half = index in self.fp16_nodes
        exempt = FLOAT32_INPUTS.get(node.op_type, frozenset()) if is_half else frozenset()
        for place, name in enumerate(node.input):
            node.input[place] = self._input_name(name, is_half and place not in exempt)
        self.nodes.append(node)
        if not is_half:
            return
        for place, name in enumerate(node.output):
            if self.graph.tensor_source(name) == "made" and self.graph.is_graph_output(name):
                node.output[place] = self._cast_names[name, True] = name + SUFFIX_FP16
                self._append_cast(name + SUFFIX_FP16, name, to_half=False)
                self._cast_names[name, False] = name

    def _input_name(self, name: str, wants_half: bool) -> str:
        """What to read for tensor `name` of the original graph."""
        kind = self.graph.tensor_source(name)
        if not kind:
            return name
        if kind == "constant":
            if not wants_half:
                return name
            return self.fp16_constants.setdefault(name, name + SUFFIX_FP16)
        if (name, wants_half) in self._cast_names:
            return self._cast_names[name, wants_half]
        if (self.graph.producer(name) in self.fp16_nodes) == wants_half:
            return name
        new = name + (SUFFIX_FP16 if wants_half else SUFFIX_FP32)
        self._append_cast(name, new, to_half=wants_half)
        self._cast_names[name, wants_half] = new
        return new

    def _append_cast(self, source: str, target: str, *, to_half: bool) -> None:
        import onnx

        wanted = onnx.TensorProto.FLOAT16 if to_half else onnx.TensorProto.FLOAT
        name = f"cast {target}"
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name, to=wanted))
        self.cast_count += 1


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that inference reaches."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"is no valid graph: {error}", where=str(model.graph.name)) from error
    graph = inferred.graph
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
    return types


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Make initializers of `Constant` nodes, so that there is one kind of constant."""
    import onnx

    rest = []
    for node in graph.node:
        lifted = _constant_value(node.attribute) if node.op_type == "Constant" else None
        if lifted is None:
            rest.append(node)
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(lifted, node.output[0]))
    kept = [type(node).FromString(node.SerializeToString()) for node in rest]
    del graph.node[:]
    graph.node.extend(kept)


def _constant_value(attributes: Iterable[Any]) -> NDArray[Any] | None:
    for attribute in attributes:
        if attribute.name == "value":
            return _array(attribute.t)
        if attribute.name in ("value_float", "value_floats"):
            single = attribute.name == "value_float"
            return np.array(attribute.f if single else list(attribute.floats), np.float32)
        if attribute.name in ("value_int", "value_ints"):
            single = attribute.name == "value_int"
            return np.array(attribute.i if single else list(attribute.ints), np.int64)
    return None


def _array(tensor: Any) -> NDArray[Any]:
    import onnx

    array: NDArray[Any] = onnx.numpy_helper.to_array(tensor)
    return array
