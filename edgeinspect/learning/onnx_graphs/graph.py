"""A view of an ONNX graph that answers what a placement must know: who makes what for whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import check_regular

MIN_QDQ_OPSET = 19
"""Opset from which QuantizeLinear is what TensorRT, OpenVINO and ONNX Runtime agree on."""


def load_model(path: Path) -> Any:
    """Read an ONNX file (`onnx.ModelProto`).

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: It cannot be parsed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    try:
        return onnx.load(str(check_regular(path)), load_external_data=False)
    except Exception as error:  # protobuf's own error has no public name
        raise ModelError(f"is no ONNX file: {error}", where=str(path)) from error


def non_float32_type(model: Any) -> str:
    """The float type that a graph computes in beside float32, in words; empty for none.

    Looks at weights, constants and casts: a scale of an INT8 graph must be of the weights' type.
    """
    from onnx import TensorProto

    halves = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    types = [tensor.data_type for tensor in model.graph.initializer]
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.name == "value" and node.op_type in ("Constant", "ConstantOfShape"):
                types.append(entry.t.data_type)
            elif entry.name == "to" and node.op_type == "Cast":
                types.append(entry.i)
    if found := next((halves[kind] for kind in types if kind in halves), ""):
        return found
    # Exporters leave a size of one number in double here and there; weights are another matter.
    double = any(
        tensor.data_type == TensorProto.DOUBLE and len(tensor.dims) > 1
        for tensor in model.graph.initializer
    )
    return "float64" if double else ""


def copy_model(model: Any) -> Any:
    """A copy that shares nothing."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def opset_version(model: Any) -> int:
    """Version of the default operator set."""
    return next((int(e.version) for e in model.opset_import if e.domain in ("", "ai.onnx")), 0)


class GraphIndex:
    """Producers, consumers and constants of a model, as it was when this was made.

    Args:
        model: onnx.ModelProto; not changed, not copied.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers: dict[str, Any] = {}
        self._consumers: dict[str, list[Any]] = {}
        self._positions: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            for name in node.output:
                self._producers[name] = node
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
            self._positions[node.output[0]] = index
        self.outputs = [value.name for value in model.graph.output]

    def producer(self, tensor: str) -> Any | None:
        """The node that makes a tensor; None for inputs and constants."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> list[Any]:
        """The nodes that read a tensor, once per reading."""
        return self._consumers.get(tensor, [])

    def position(self, node: Any) -> int:
        """The node's place in the graph's order."""
        return self._positions[node.output[0]]

    def is_constant(self, tensor: str) -> bool:
        """True for an initializer."""
        return tensor in self._constants

    def constant(self, tensor: str) -> NDArray[Any]:
        """An initializer's value."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[tensor]))

    def ancestors(self, tensor: str) -> Iterator[Any]:
        """Every node that a tensor depends on, each once, nearest first."""
        seen: set[str] = set()
        waiting = [tensor]
        while waiting:
            node = self._producers.get(waiting.pop(0))
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            yield node
            waiting.extend(node.input)


def node_attribute(node: Any, name: str, default: Any) -> Any:
    """A node's attribute, or a default."""
    from onnx import helper

    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def fold_batch_norms(model: Any) -> int:
    """Fold every BatchNormalization that follows a Conv alone into it, in place.

    Quantizing before folding would give weights scales that the fold then breaks.

    Returns:
        How many were folded.
    """
    from onnx import numpy_helper

    graph = GraphIndex(model)
    count = 0
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = graph.producer(norm.input[0])
        if (
            conv is None
            or conv.op_type != "Conv"
            or len(graph.consumers(conv.output[0])) != 1
            or conv.output[0] in graph.outputs
            or not all(graph.is_constant(name) for name in (*norm.input[1:5], *conv.input[1:]))
        ):
            continue
        gamma, beta, mean, variance = (
            graph.constant(name).astype(np.float64) for name in norm.input[1:5]
        )
        weight = graph.constant(conv.input[1])
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else np.zeros(len(gamma))
        factor = gamma / np.sqrt(variance + float(node_attribute(norm, "epsilon", 1e-5)))
        shape = (-1, *(1,) * (weight.ndim - 1))
        folded = (weight * factor.reshape(shape)).astype(weight.dtype)
        shifted = ((bias - mean) * factor + beta).astype(weight.dtype)
        stem = f"{conv.output[0]}_folded"
        model.graph.initializer.append(numpy_helper.from_array(folded, f"{stem}_weight"))
        model.graph.initializer.append(numpy_helper.from_array(shifted, f"{stem}_bias"))
        data = conv.input[0]
        del conv.input[:]
        conv.input.extend([data, f"{stem}_weight", f"{stem}_bias"])
        conv.output[0] = norm.output[0]
        model.graph.node.remove(norm)
        count += 1
    if count:
        drop_unused_initializers(model)
    return count


def drop_unused_initializers(model: Any) -> None:
    """Remove initializers that no node reads."""
    used = {name for node in model.graph.node for name in node.input}
    used.update(value.name for value in model.graph.output)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(kept) != len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)


def serialize_model(model: Any) -> bytes:
    """The model's bytes; the same model always gives the same ones."""
    return bytes(model.SerializeToString(deterministic=True))
