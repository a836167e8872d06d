"""Reading ONNX graphs: producers, consumers and constants; folding, copying, serialising."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import check_regular

MIN_QDQ_OPSET = 19
"""Opset from which TensorRT, OpenVINO and ONNX Runtime agree on QuantizeLinear."""


def load_model(path: Path) -> Any:
    """Read an ONNX file (`onnx.ModelProto`).

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: The file cannot be parsed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    try:
        return onnx.load(str(check_regular(path)), load_external_data=False)
    except Exception as error:  # protobuf's exception has no public name
        raise ModelError(f"is not an ONNX file: {error}", where=str(path)) from error


def error_text(error: Exception, limit: int = 240) -> str:
    """Return the message of a library's error on one line, shortened."""
    return " ".join(str(error).split())[:limit]


def non_float32_type(model: Any) -> str:
    """Return the name of a float type other than float32 that a graph computes in, or "".

    Weights, constants and casts count: the scales of an INT8 graph must have the weights' type.
    """
    from onnx import TensorProto

    names = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    types = [tensor.data_type for tensor in model.graph.initializer]
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.name == "value" and node.op_type in ("Constant", "ConstantOfShape"):
                types.append(entry.t.data_type)
            elif entry.name == "to" and node.op_type == "Cast":
                types.append(entry.i)
    if name := next((names[kind] for kind in types if kind in names), ""):
        return name
    # Exporters leave single size values in double; only weights in double matter.
    double = any(
        tensor.data_type == TensorProto.DOUBLE and len(tensor.dims) > 1
        for tensor in model.graph.initializer
    )
    return "float64" if double else ""


def copy_model(model: Any) -> Any:
    """Return a deep copy."""
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def opset_version(model: Any) -> int:
    """Return the version of the default operator set; 0 if there is none."""
    versions = [int(e.version) for e in model.opset_import if e.domain in ("", "ai.onnx")]
    return max(versions, default=0)


class GraphIndex:
    """Producers, consumers and constants of a model at the time of construction.

    Args:
        model: An `onnx.ModelProto`; neither changed nor copied.
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
        """Return the node that produces a tensor; None for inputs and constants."""
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> list[Any]:
        """Return the nodes that read a tensor, once per use."""
        return self._consumers.get(tensor, [])

    def position(self, node: Any) -> int:
        """Return the node's position in the graph."""
        return self._positions[node.output[0]]

    def is_constant(self, tensor: str) -> bool:
        """Return True for an initializer."""
        return tensor in self._constants

    def constant(self, tensor: str) -> NDArray[Any]:
        """Return an initializer's value."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[tensor]))

    def ancestors(self, tensor: str) -> Iterator[Any]:
        """Yield every node that a tensor depends on, once, nearest first."""
        seen: set[str] = set()
        pending = [tensor]
        while pending:
            node = self._producers.get(pending.pop(0))
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            yield node
            pending.extend(node.input)


def node_attribute(node: Any, name: str, default: Any) -> Any:
    """Return a node's attribute, or `default`."""
    from onnx import helper

    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
    return default


def fold_batch_norms(model: Any) -> int:
    """Fold each BatchNormalization into a Conv that only feeds it, in place; return the count.

    Fold before quantising: folding changes the weights that the scales were computed from.
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
        prefix = f"{conv.output[0]}_folded"
        model.graph.initializer.append(numpy_helper.from_array(folded, f"{prefix}_weight"))
        model.graph.initializer.append(numpy_helper.from_array(shifted, f"{prefix}_bias"))
        data = conv.input[0]
        del conv.input[:]
        conv.input.extend([data, f"{prefix}_weight", f"{prefix}_bias"])
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
    """Return the model's bytes, deterministically."""
    return bytes(model.SerializeToString(deterministic=True))
