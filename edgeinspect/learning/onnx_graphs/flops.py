"""Computational cost of one inference, counted from the graph: multiply-adds and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.learning.onnx_graphs.graph import error_text
from edgeinspect.system import check_regular


@dataclass(frozen=True, slots=True)
class InferenceCost:
    """Cost of inference on one image."""

    macs: int
    """Multiply-adds of convolutions and matrix products; other operators are negligible."""
    parameters: int
    """Floating-point weights in the graph, batch norms as folded as the graph has them."""

    @property
    def gmac(self) -> float:
        """Multiply-adds in billions."""
        return self.macs / 1e9


def count_flops(path: Path) -> InferenceCost:
    """Count the multiply-adds and weights of a graph with fixed sizes.

    Raises:
        ModelError: The graph cannot be read, or a required size is not known.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(check_regular(path)), data_prop=True)
    except Exception as error:  # exception types differ by protobuf and onnx version
        raise ModelError(f"cannot be counted: {error_text(error)}", where=str(path)) from error
    graph = model.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    macs = 0
    for node in graph.node:
        try:
            macs += _macs(node, shapes)
        except KeyError as error:
            raise ModelError(
                f"{node.op_type} {node.name}: the size of {error} is not known",
                where=str(path),
                remedy="Fix all sizes of the graph",
            ) from error
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    weights = sum(_product(t.dims) for t in graph.initializer if t.data_type in floats)
    return InferenceCost(macs, weights)


def _macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type in ("Conv", "QLinearConv"):
        kernel = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]]
        # (outputs, inputs / groups, height, width): one output value costs all but the first.
        return _product(shapes[node.output[0]]) * _product(kernel[1:])
    if node.op_type == "ConvTranspose":
        kernel = shapes[node.input[1]]
        return _product(shapes[node.input[0]]) * _product(kernel[1:])
    if node.op_type == "Gemm":
        first = shapes[node.input[0]]
        is_transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return _product(shapes[node.output[0]]) * first[0 if is_transposed else 1]
    if node.op_type == "MatMul":
        return _product(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def _product(dims: Any) -> int:
    return int(np.prod(tuple(dims), dtype=np.int64))
