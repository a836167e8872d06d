"""An ONNX graph with its producers and consumers, and its rewriting to mixed precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import ModelError

if TYPE_CHECKING:
    import onnx

FLOAT32_INPUTS = {"Resize": frozenset({1, 2})}
"""Operator to the input indices that stay float32 whatever the node computes in."""
SUFFIX_FP16 = "/fp16"
SUFFIX_FP32 = "/fp32"
_FP16_MAX = float(np.finfo(np.float16).max)


class FloatGraph:
    """A copy of a graph with indexes. Not thread-safe; call `to_mixed_precision` once.

    Args:
        model: Copied, not changed.

    Raises:
        ModelError: Shape inference, which yields the tensor types, rejects the graph.
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
        """Nodes whose result depends on a graph input."""
        for index, node in enumerate(self.nodes):  # ONNX nodes are topologically sorted
            if inputs.intersection(node.input) or any(
                i in self.input_dependent for i in self.producers(index)
            ):
                self.input_dependent.add(index)

    def producers(self, index: int) -> list[int]:
        """Return the nodes whose results a node reads."""
        names = self.nodes[index].input
        return sorted({self._producer_of[name] for name in names if name in self._producer_of})

    def consumers(self, index: int) -> list[int]:
        """Return the nodes that read a node's results."""
        return sorted(
            {i for name in self.nodes[index].output for i in self._consumers_of.get(name, ())}
        )

    def is_float32(self, index: int) -> bool:
        """Return whether a node has a float32 output."""
        return any(self._is_float32(name) for name in self.nodes[index].output)

    def constant_fits_fp16(self, index: int, input_index: int, max_relative_error: float) -> bool:
        """Return whether float16 can represent the constant at one input of a node.

        Args:
            index: The node.
            input_index: The input; True if it is not a float32 constant.
            max_relative_error: Allowed for each value other than 0.
        """
        names = self.nodes[index].input
        tensor = self._constants.get(names[input_index]) if input_index < len(names) else None
        if tensor is None or not self._is_float32(tensor.name):
            return True
        values = _array(tensor)
        if not np.all(np.abs(values) <= _FP16_MAX):  # False for NaN too
            return False
        exact = values[values != 0].astype(np.float64)
        rounded = exact.astype(np.float16).astype(np.float64)
        return bool(np.all(np.abs(rounded - exact) <= max_relative_error * np.abs(exact)))

    def to_mixed_precision(self, fp16_nodes: set[int]) -> int:
        """Make the float32 tensors of `fp16_nodes` float16; return the number of casts added.

        A tensor that crosses between the two types gets one cast per type, shared by its
        consumers; a constant that both types read is duplicated. Graph inputs and outputs keep
        their type.
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
        fp16_tensors = [
            onnx.numpy_helper.from_array(_array(self._constants[name]).astype(np.float16), new)
            for name, new in rewriting.fp16_constants.items()
        ]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *fp16_tensors])
        return rewriting.cast_count

    def is_graph_output(self, name: str) -> bool:
        """Return whether a tensor is a graph output."""
        return any(value.name == name for value in self.model.graph.output)

    def tensor_source(self, name: str) -> str:
        """Return `constant`, `node` or `input` for a float32 tensor, else an empty string."""
        if not name or not self._is_float32(name):
            return ""
        return (
            "constant"
            if name in self._constants
            else "node"
            if name in self._producer_of
            else "input"
        )

    def producer(self, name: str) -> int:
        """Return the node that produces a tensor; -1 for a graph input."""
        return self._producer_of.get(name, -1)

    def _is_float32(self, name: str) -> bool:
        import onnx

        return bool(self._types.get(name) == onnx.TensorProto.FLOAT)


class _GraphRewriter:
    """Builds the new node list, node by node."""

    def __init__(self, graph: FloatGraph, fp16_nodes: set[int]) -> None:
        self.graph = graph
        self.fp16_nodes = fp16_nodes
        self.nodes: list[Any] = []
        self.fp16_constants: dict[str, str] = {}
        """Float32 constant to the name of its float16 copy."""
        self.cast_count = 0
        self._cast_names: dict[tuple[str, bool], str] = {}

    def append_node(self, index: int) -> None:
        """Append a node, preceded by the casts that its inputs need."""
        import onnx

        node = onnx.NodeProto()
        node.CopyFrom(self.graph.nodes[index])
        is_fp16 = index in self.fp16_nodes
        exempt = FLOAT32_INPUTS.get(node.op_type, frozenset()) if is_fp16 else frozenset()
        for input_index, name in enumerate(node.input):
            node.input[input_index] = self._input_name(name, is_fp16 and input_index not in exempt)
        self.nodes.append(node)
        if not is_fp16:
            return
        for output_index, name in enumerate(node.output):
            if self.graph.tensor_source(name) == "node" and self.graph.is_graph_output(name):
                node.output[output_index] = self._cast_names[name, True] = name + SUFFIX_FP16
                self._append_cast(name + SUFFIX_FP16, name, to_fp16=False)
                self._cast_names[name, False] = name

    def _input_name(self, name: str, wants_fp16: bool) -> str:
        """Return the tensor to read in place of `name`; append a cast if needed."""
        kind = self.graph.tensor_source(name)
        if not kind:
            return name
        if kind == "constant":
            if not wants_fp16:
                return name
            return self.fp16_constants.setdefault(name, name + SUFFIX_FP16)
        if (name, wants_fp16) in self._cast_names:
            return self._cast_names[name, wants_fp16]
        if (self.graph.producer(name) in self.fp16_nodes) == wants_fp16:
            return name
        new = name + (SUFFIX_FP16 if wants_fp16 else SUFFIX_FP32)
        self._append_cast(name, new, to_fp16=wants_fp16)
        self._cast_names[name, wants_fp16] = new
        return new

    def _append_cast(self, source: str, target: str, *, to_fp16: bool) -> None:
        import onnx

        dtype = onnx.TensorProto.FLOAT16 if to_fp16 else onnx.TensorProto.FLOAT
        name = f"cast {target}"
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name, to=dtype))
        self.cast_count += 1


def _tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor that shape inference resolves."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"is not a valid graph: {error}", where=str(model.graph.name)) from error
    graph = inferred.graph
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = int(value.type.tensor_type.elem_type)
    return types


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Replace `Constant` nodes by initializers, so that there is one kind of constant."""
    import onnx

    rest = []
    for node in graph.node:
        value = _constant_value(node.attribute) if node.op_type == "Constant" else None
        if value is None:
            rest.append(node)
        else:
            graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
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
