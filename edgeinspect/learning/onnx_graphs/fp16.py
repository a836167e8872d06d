"""FP16 as a change of the graph: half in the network's body, float32 where it matters.

TensorRT 11 has no FP16 flag: the precision of every tensor is the one the graph says. This
pass says it. Half are the convolutions and matrix products, and what lies between two of
them and loses nothing by it. Float32 stay, by where they lie and not by their names:

- everything before the first convolution: scaling and the statistics of a frame;
- everything after the last: soft-max, arg-max, area sums (a half sum is exact to 2048 only);
- sums, means, exponentials and the like anywhere (`SAFE` lists what may be half);
- a layer whose weights or Q/DQ scales half cannot hold.

Source: docs/decisions/0011-tensorrt.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.float_graph import FloatGraph

if TYPE_CHECKING:
    import onnx

COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where the time goes; the tensor cores take half."""

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
"""May be half when it lies between two heavy nodes."""

INNER_ONLY_OPS = frozenset({"HardSigmoid", "Mul", "Sigmoid", "Tanh"})
"""Safe, but float32 where no half node reads the result: a square overflows before its mean
is taken, and a curve loses more than the cast saves."""

EPILOGUE_OPS = frozenset({"Add", "Clip", "LeakyRelu", "Relu"})
"""Fused into the heavy node that they follow: half with it, also after the last one."""

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FLOAT_TYPE_KEY, FLOAT_TYPE_FP16 = "edgeinspect.float", "fp16"
"""Metadata of a converted graph."""
MIN_FP16_OPSET = 13
MIN_FP16_QDQ_OPSET = 19
"""From here on Q/DQ scales may be half."""
MAX_SCALE_ERROR = 2.0**-10
"""Relative; a scale that half holds worse keeps its layer in float32."""


@dataclass(frozen=True, slots=True)
class Fp16Result:
    """A converted graph and what was done to it."""

    model: onnx.ModelProto
    fp16_nodes: tuple[str, ...]
    """Nodes (by their first output) that compute in half."""
    float32_layers: tuple[str, ...]
    """Heavy nodes left in float32: half cannot hold their weights or scales."""
    cast_count: int
    """Casts put in between."""


def convert_to_fp16(model: onnx.ModelProto) -> Fp16Result:
    """Rewrite a graph so that its body computes in half; inputs and outputs stay as they are.

    Args:
        model: Opset 13 or above, 19 with Q/DQ nodes. It is not changed.

    Raises:
        ModelError: The opset is too old, the graph has control flow or no convolution, or
            the result is not a valid graph.
    """
    import onnx

    _check_convertible(model)
    graph = FloatGraph(model)
    half, kept = _select_nodes(graph)
    if not any(graph.nodes[index].op_type in COMPUTE_OPS for index in half):
        raise ModelError(
            "has no convolution or matrix product that could run in half",
            where=graph.name,
            remedy="Use the FP32 graph",
        )
    casts = graph.to_mixed_precision(half)
    _record_float_type(graph.model)
    try:
        onnx.checker.check_model(graph.model, full_check=True)
        onnx.shape_inference.infer_shapes(graph.model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"cannot be written in half: {error}", where=graph.name) from error
    names = tuple(graph.nodes[index].output[0] for index in sorted(half))
    return Fp16Result(graph.model, names, tuple(graph.nodes[i].output[0] for i in kept), casts)


def _record_float_type(model: onnx.ModelProto) -> None:
    """Say in the metadata what was done: an old TensorRT must be told by a flag."""
    for entry in model.metadata_props:
        if entry.key == FLOAT_TYPE_KEY:
            entry.value = FLOAT_TYPE_FP16
            return
    entry = model.metadata_props.add()
    entry.key, entry.value = FLOAT_TYPE_KEY, FLOAT_TYPE_FP16


def _check_convertible(model: onnx.ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
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
    """The nodes to compute in half, and the heavy ones that cannot."""
    heavy = {i for i, node in enumerate(graph.nodes) if node.op_type in COMPUTE_OPS}
    after = _reachable(graph, heavy, forward=True)
    before = _reachable(graph, heavy, forward=False)
    half = {
        index
        for index, node in enumerate(graph.nodes)
        if graph.is_float32(index)
        and (
            index in heavy or (node.op_type in FP16_SAFE_OPS and index in after and index in before)
        )
    }
    kept: list[int] = []
    changed = True
    while changed:  # every round takes nodes out or settles Q/DQ; both end
        unfit = [i for i in sorted(half) if not _constants_fit_fp16(graph, i)]
        kept += [i for i in unfit if i in heavy]
        half -= set(unfit)
        idle = {i for i in half if _not_worth_casting(graph, i, half)}
        half -= idle
        changed = bool(unfit or idle)
    for index, node in enumerate(graph.nodes):  # a graph is sorted
        makers = _data_producers(graph, index)
        follows = node.op_type in EPILOGUE_OPS and bool(makers) and all(i in half for i in makers)
        if follows and graph.is_float32(index) and _constants_fit_fp16(graph, index):
            half.add(index)
    half |= _select_qdq_nodes(graph, half, kept)
    return half, kept


def _reachable(graph: FloatGraph, start: set[int], *, forward: bool) -> set[int]:
    """The nodes strictly after (or before) any of `start`."""
    seen: set[int] = set()
    waiting = list(start)
    while waiting:
        index = waiting.pop()
        for other in graph.consumers(index) if forward else graph.producers(index):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def _not_worth_casting(graph: FloatGraph, index: int, half: set[int]) -> bool:
    """True for a node that would only be wrapped in casts."""
    node = graph.nodes[index]
    makers = _data_producers(graph, index)
    readers = _neighbours_past_qdq(graph, index, forward=True)
    fed = any(i in half for i in makers)
    read = any(i in half for i in readers)
    if node.op_type in INNER_ONLY_OPS:
        return not (fed and read)
    if node.op_type in ("Gemm", "MatMul"):
        return not (fed or read) and bool(makers)
    return node.op_type not in COMPUTE_OPS and not fed


def _data_producers(graph: FloatGraph, index: int) -> list[int]:
    """The nodes whose results a node computes from, Q/DQ and constants apart."""
    return [
        i for i in _neighbours_past_qdq(graph, index, forward=False) if i in graph.input_dependent
    ]


def _neighbours_past_qdq(graph: FloatGraph, index: int, *, forward: bool) -> list[int]:
    """Makers or readers of a node, looking through Q/DQ pairs."""
    found: list[int] = []
    waiting = [index]
    while waiting:
        at = waiting.pop()
        for other in graph.consumers(at) if forward else graph.producers(at):
            if graph.nodes[other].op_type in (QUANTIZE, DEQUANTIZE):
                waiting.append(other)
            else:
                found.append(other)
    return found


def _select_qdq_nodes(graph: FloatGraph, half: set[int], kept: list[int]) -> set[int]:
    """The Q/DQ nodes that become half: Q as what it reads, DQ as all who read it.

    A scale that half cannot hold takes the heavy nodes that it serves out of `half`.
    """
    settled: set[int] = set()
    for index in _dequantize_nodes(graph):
        readers = graph.consumers(index)
        if not readers or not all(reader in half for reader in readers):
            continue
        if graph.constant_fits_fp16(index, 1, MAX_SCALE_ERROR):
            settled.add(index)
            continue
        lost = [r for r in readers if graph.nodes[r].op_type in COMPUTE_OPS]
        kept += [r for r in lost if r in half]
        half -= set(lost)
    # A DQ that shares its reader with one of those must follow it back.
    settled = {i for i in settled if all(reader in half for reader in graph.consumers(i))}
    for index, node in enumerate(graph.nodes):
        if node.op_type != QUANTIZE or not graph.constant_fits_fp16(index, 1, MAX_SCALE_ERROR):
            continue
        makers = graph.producers(index)
        constant = index not in graph.input_dependent
        if constant and graph.constant_fits_fp16(index, 0, 1.0):
            wide = [r for r in graph.consumers(index) if r in settled]
            settled |= {index} if wide else set()
        elif makers and all(maker in half or maker in settled for maker in makers):
            settled.add(index)
    return settled


def _dequantize_nodes(graph: FloatGraph) -> Iterator[int]:
    return (i for i, node in enumerate(graph.nodes) if node.op_type == DEQUANTIZE)


def _constants_fit_fp16(graph: FloatGraph, index: int) -> bool:
    """Whether half can hold a node's float32 constants at all (65504 at most)."""
    return all(
        graph.constant_fits_fp16(index, place, 1.0)
        for place in range(len(graph.nodes[index].input))
    )
