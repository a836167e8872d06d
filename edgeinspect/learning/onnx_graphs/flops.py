"""What one inference costs, counted from the graph: multiply-adds and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.system import check_regular


@dataclass(frozen=True, slots=True)
class InferenceCost:
    """Of one picture."""

    macs: int
    """Multiply-adds of convolutions and matrix products; the rest is small beside them."""
    parameters: int
    """Numbers in the graph's floating-point weights, batch norms folded as the graph has them."""

    @property
    def gmac(self) -> float:
        """In thousand millions."""
        return self.macs / 1e9


def count_flops(path: Path) -> InferenceCost:
    """Count a graph whose sizes are all fixed.

    Raises:
        ModelError: It cannot be read, or a size that is needed is not known.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(check_regular(path)), data_prop=True)
    except Exception as error:  # protobuf's and onnx's own, by the installed versions
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"cannot be counted: {reason}", where=str(path)) from error
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
        # (outputs, inputs / groups, height, width): all but the first per output number.
        return _product(shapes[node.output[0]]) * _product(kernel[1:])
    if node.op_type == "ConvTranspose":
        kernel = shapes[node.input[1]]
        return _product(shapes[node.input[0]]) * _product(kernel[1:])
    if node.op_type == "Gemm":
        first = shapes[node.input[0]]
        turned = any(a.name == "transA" and a.i for a in node.attribute)
        return _product(shapes[node.output[0]]) * first[0 if turned else 1]
    if node.op_type == "MatMul":
        return _product(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return 0


def _product(dims: Any) -> int:
    return int(np.prod(tuple(dims), dtype=np.int64))
