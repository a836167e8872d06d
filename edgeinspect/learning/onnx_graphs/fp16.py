"""FP16 as a rewrite of the graph: float16 in the network's body, float32 where it matters.

TensorRT 11 has no FP16 flag: each tensor is computed in the type that the graph declares. This
pass declares it. Float16 are convolutions and matrix products, and the operators between two of
them that lose nothing by it. Float32 remain, chosen by position and not by name:

- everything before the first convolution: scaling and frame statistics;
- everything after the last: softmax, arg-max, area sums (a float16 sum is exact to 2048 only);
- sums, means, exponentials and the like anywhere (`FP16_SAFE_OPS` lists the exceptions);
- layers whose weights or Q/DQ scales float16 cannot represent.

Source: docs/explanation/decisions/0011-tensorrt.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.float_graph import FloatGraph
from edgeinspect.learning.onnx_graphs.graph import opset_version

if TYPE_CHECKING:
    import onnx

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that dominate the run time and that tensor cores compute in float16."""

FP16_SAFE_OPS = frozenset(
    {
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "DepthToSpace",
        "Elu",
        "Flatten",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "PRelu",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)
"""May be float16 between two compute nodes."""

INNER_ONLY_OPS = frozenset({"HardSigmoid", "Mul", "Sigmoid", "Tanh"})
"""Float16 only if a float16 node reads the result: a square overflows before its mean is taken,
and a nonlinearity loses more than the cast saves."""

EPILOGUE_OPS = frozenset({"Add", "Clip", "LeakyRelu", "Relu"})
"""Fused into the preceding compute node: float16 with it, also after the last one."""

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FLOAT_TYPE_KEY, FLOAT_TYPE_FP16 = "edgeinspect.float", "fp16"
"""Metadata of a converted graph."""
MIN_FP16_OPSET = 13
MIN_FP16_QDQ_OPSET = 19
"""From this opset on, Q/DQ scales may be float16."""
MAX_SCALE_ERROR = 2.0**-10
"""Relative rounding error of a scale above which its layer stays in float32."""


@dataclass(frozen=True, slots=True)
class Fp16Result:
    """A converted graph and a summary of the conversion."""

    model: onnx.ModelProto
    fp16_nodes: tuple[str, ...]
    """First outputs of the nodes that compute in float16."""
    float32_layers: tuple[str, ...]
    """Compute nodes left in float32: float16 cannot represent their weights or scales."""
    cast_count: int
    """Casts that were inserted."""


def convert_to_fp16(model: onnx.ModelProto) -> Fp16Result:
    """Rewrite a graph so that its body computes in float16; inputs and outputs keep their type.

    Args:
        model: Opset 13 or above, 19 with Q/DQ nodes. Not changed.

    Raises:
        ModelError: The opset is too old, the graph has control flow or no convolution, or
            the result is not a valid graph.
    """
    import onnx

    _check_convertible(model)
    graph = FloatGraph(model)
    fp16_nodes, float32_nodes = _select_nodes(graph)
    if not any(graph.nodes[index].op_type in COMPUTE_OPS for index in fp16_nodes):
        raise ModelError(
            "has no convolution or matrix product that could run in float16",
            where=graph.name,
            remedy="Use the FP32 graph",
        )
    casts = graph.to_mixed_precision(fp16_nodes)
    _record_float_type(graph.model)
    try:
        onnx.checker.check_model(graph.model, full_check=True)
        onnx.shape_inference.infer_shapes(graph.model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"cannot be converted to float16: {error}", where=graph.name) from error
    names = tuple(graph.nodes[index].output[0] for index in sorted(fp16_nodes))
    return Fp16Result(
        graph.model, names, tuple(graph.nodes[i].output[0] for i in float32_nodes), casts
    )


def _record_float_type(model: onnx.ModelProto) -> None:
    """Record the conversion in the metadata: an old TensorRT needs its FP16 flag set."""
    for entry in model.metadata_props:
        if entry.key == FLOAT_TYPE_KEY:
            entry.value = FLOAT_TYPE_FP16
            return
    entry = model.metadata_props.add()
    entry.key, entry.value = FLOAT_TYPE_KEY, FLOAT_TYPE_FP16


def _check_convertible(model: onnx.ModelProto) -> None:
    opset = opset_version(model)
    quantized = any(node.op_type == QUANTIZE for node in model.graph.node)
    needed = MIN_FP16_QDQ_OPSET if quantized else MIN_FP16_OPSET
    if opset < needed:
        raise ModelError(
            f"has opset {opset}; FP16 {'of a Q/DQ graph ' * quantized}needs {needed}",
            where=model.graph.name,
            remedy="Export it again with a newer opset",
        )
    for node in model.graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ModelError(
                f"has control flow ({node.op_type})",
                where=model.graph.name,
                remedy="Export it with fixed shapes and no branches",
            )


def _select_nodes(graph: FloatGraph) -> tuple[set[int], list[int]]:
    """Return the float16 nodes, and the compute nodes that must stay in float32."""
    compute_nodes = {i for i, node in enumerate(graph.nodes) if node.op_type in COMPUTE_OPS}
    after = _reachable(graph, compute_nodes, forward=True)
    before = _reachable(graph, compute_nodes, forward=False)
    fp16_nodes = {
        index
        for index, node in enumerate(graph.nodes)
        if graph.is_float32(index)
        and (
            index in compute_nodes
            or (node.op_type in FP16_SAFE_OPS and index in after and index in before)
        )
    }
    float32_nodes: list[int] = []
    changed = True
    while changed:  # each round removes nodes, so it terminates
        unfit = [i for i in sorted(fp16_nodes) if not _constants_fit_fp16(graph, i)]
        float32_nodes += [i for i in unfit if i in compute_nodes]
        fp16_nodes -= set(unfit)
        not_worth = {i for i in fp16_nodes if _not_worth_casting(graph, i, fp16_nodes)}
        fp16_nodes -= not_worth
        changed = bool(unfit or not_worth)
    for index, node in enumerate(graph.nodes):  # ONNX nodes are topologically sorted
        producers = _data_producers(graph, index)
        follows = (
            node.op_type in EPILOGUE_OPS
            and bool(producers)
            and all(i in fp16_nodes for i in producers)
        )
        if follows and graph.is_float32(index) and _constants_fit_fp16(graph, index):
            fp16_nodes.add(index)
    fp16_nodes |= _select_qdq_nodes(graph, fp16_nodes, float32_nodes)
    return fp16_nodes, float32_nodes


def _reachable(graph: FloatGraph, start: set[int], *, forward: bool) -> set[int]:
    """Return the nodes strictly after (or before) any of `start`."""
    seen: set[int] = set()
    pending = list(start)
    while pending:
        index = pending.pop()
        for other in graph.consumers(index) if forward else graph.producers(index):
            if other not in seen:
                seen.add(other)
                pending.append(other)
    return seen


def _not_worth_casting(graph: FloatGraph, index: int, fp16_nodes: set[int]) -> bool:
    """Return True for a node that would only be wrapped in casts."""
    node = graph.nodes[index]
    producers = _data_producers(graph, index)
    consumers = _neighbours_past_qdq(graph, index, forward=True)
    fed = any(i in fp16_nodes for i in producers)
    read = any(i in fp16_nodes for i in consumers)
    if node.op_type in INNER_ONLY_OPS:
        return not (fed and read)
    if node.op_type in ("Gemm", "MatMul"):
        return not (fed or read) and bool(producers)
    return node.op_type not in COMPUTE_OPS and not fed


def _data_producers(graph: FloatGraph, index: int) -> list[int]:
    """Return the nodes whose results a node computes from, without Q/DQ and constants."""
    return [
        i for i in _neighbours_past_qdq(graph, index, forward=False) if i in graph.input_dependent
    ]


def _neighbours_past_qdq(graph: FloatGraph, index: int, *, forward: bool) -> list[int]:
    """Return the producers or consumers of a node, skipping Q/DQ pairs."""
    found: list[int] = []
    pending = [index]
    while pending:
        at = pending.pop()
        for other in graph.consumers(at) if forward else graph.producers(at):
            if graph.nodes[other].op_type in (QUANTIZE, DEQUANTIZE):
                pending.append(other)
            else:
                found.append(other)
    return found


def _select_qdq_nodes(
    graph: FloatGraph, fp16_nodes: set[int], float32_nodes: list[int]
) -> set[int]:
    """Return the Q/DQ nodes that become float16: Q follows its producers, DQ its consumers.

    A scale that float16 cannot represent removes its compute nodes from `fp16_nodes`.
    """
    selected: set[int] = set()
    for index in _dequantize_nodes(graph):
        consumers = graph.consumers(index)
        if not consumers or not all(consumer in fp16_nodes for consumer in consumers):
            continue
        if graph.constant_fits_fp16(index, 1, MAX_SCALE_ERROR):
            selected.add(index)
            continue
        affected = [r for r in consumers if graph.nodes[r].op_type in COMPUTE_OPS]
        float32_nodes += [r for r in affected if r in fp16_nodes]
        fp16_nodes -= set(affected)
    # A DQ node that shares its consumer with one of those stays float32 with it.
    selected = {
        i for i in selected if all(consumer in fp16_nodes for consumer in graph.consumers(i))
    }
    for index, node in enumerate(graph.nodes):
        if node.op_type != QUANTIZE or not graph.constant_fits_fp16(index, 1, MAX_SCALE_ERROR):
            continue
        producers = graph.producers(index)
        constant = index not in graph.input_dependent
        if constant and graph.constant_fits_fp16(index, 0, 1.0):
            fp16_consumers = [r for r in graph.consumers(index) if r in selected]
            selected |= {index} if fp16_consumers else set()
        elif producers and all(
            producer in fp16_nodes or producer in selected for producer in producers
        ):
            selected.add(index)
    return selected


def _dequantize_nodes(graph: FloatGraph) -> Iterator[int]:
    return (i for i, node in enumerate(graph.nodes) if node.op_type == DEQUANTIZE)


def _constants_fit_fp16(graph: FloatGraph, index: int) -> bool:
    """Return whether a node's float32 constants are in the range of float16 (65504)."""
    return all(
        graph.constant_fits_fp16(index, index_of_input, 1.0)
        for index_of_input in range(len(graph.nodes[index].input))
    )
