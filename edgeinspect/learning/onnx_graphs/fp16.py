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

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where the time goes; the tensor cores take half."""

SAFE = frozenset(
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

NEVER_LAST = frozenset({"HardSigmoid", "Mul", "Sigmoid", "Tanh"})
"""Safe, but float32 where no half node reads the result: a square overflows before its mean
is taken, and a curve loses more than the cast saves."""

EPILOGUE = frozenset({"Add", "Clip", "LeakyRelu", "Relu"})
"""Fused into the heavy node that they follow: half with it, also after the last one."""

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FLOAT_KEY, FLOAT_HALF = "edgeinspect.float", "fp16"
"""Metadata of a converted graph."""
MIN_OPSET = 13
QDQ_OPSET = 19
"""From here on Q/DQ scales may be half."""
WORST_SCALE_ERROR = 2.0**-10
"""Relative; a scale that half holds worse keeps its layer in float32."""


@dataclass(frozen=True, slots=True)
class Halved:
    """A converted graph and what was done to it."""

    model: onnx.ModelProto
    half: tuple[str, ...]
    """Nodes (by their first output) that compute in half."""
    kept: tuple[str, ...]
    """Heavy nodes left in float32: half cannot hold their weights or scales."""
    casts: int
    """Casts put in between."""


def convert(model: onnx.ModelProto) -> Halved:
    """Rewrite a graph so that its body computes in half; inputs and outputs stay as they are.

    Args:
        model: Opset 13 or above, 19 with Q/DQ nodes. It is not changed.

    Raises:
        ModelError: The opset is too old, the graph has control flow or no convolution, or
            the result is not a valid graph.
    """
    import onnx

    _check_usable(model)
    graph = FloatGraph(model)
    half, kept = _choose(graph)
    if not any(graph.nodes[index].op_type in HEAVY for index in half):
        raise ModelError(
            "has no convolution or matrix product that could run in half",
            where=graph.name,
            remedy="Use the FP32 graph",
        )
    casts = graph.rewrite(half)
    _note(graph.model)
    try:
        onnx.checker.check_model(graph.model, full_check=True)
        onnx.shape_inference.infer_shapes(graph.model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"cannot be written in half: {error}", where=graph.name) from error
    names = tuple(graph.nodes[index].output[0] for index in sorted(half))
    return Halved(graph.model, names, tuple(graph.nodes[i].output[0] for i in kept), casts)


def _note(model: onnx.ModelProto) -> None:
    """Say in the metadata what was done: an old TensorRT must be told by a flag."""
    for entry in model.metadata_props:
        if entry.key == FLOAT_KEY:
            entry.value = FLOAT_HALF
            return
    entry = model.metadata_props.add()
    entry.key, entry.value = FLOAT_KEY, FLOAT_HALF


def _check_usable(model: onnx.ModelProto) -> None:
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    quantized = any(node.op_type == QUANTIZE for node in model.graph.node)
    needed = QDQ_OPSET if quantized else MIN_OPSET
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


def _choose(graph: FloatGraph) -> tuple[set[int], list[int]]:
    """The nodes to compute in half, and the heavy ones that cannot."""
    heavy = {i for i, node in enumerate(graph.nodes) if node.op_type in HEAVY}
    after = _reach(graph, heavy, forward=True)
    before = _reach(graph, heavy, forward=False)
    half = {
        index
        for index, node in enumerate(graph.nodes)
        if graph.is_float(index)
        and (index in heavy or (node.op_type in SAFE and index in after and index in before))
    }
    kept: list[int] = []
    changed = True
    while changed:  # every round takes nodes out or settles Q/DQ; both end
        unfit = [i for i in sorted(half) if not _fits(graph, i)]
        kept += [i for i in unfit if i in heavy]
        half -= set(unfit)
        idle = {i for i in half if _gains_nothing(graph, i, half)}
        half -= idle
        changed = bool(unfit or idle)
    for index, node in enumerate(graph.nodes):  # a graph is sorted
        makers = _feeding(graph, index)
        follows = node.op_type in EPILOGUE and bool(makers) and all(i in half for i in makers)
        if follows and graph.is_float(index) and _fits(graph, index):
            half.add(index)
    half |= _settle_quantization(graph, half, kept)
    return half, kept


def _reach(graph: FloatGraph, start: set[int], *, forward: bool) -> set[int]:
    """The nodes strictly after (or before) any of `start`."""
    seen: set[int] = set()
    waiting = list(start)
    while waiting:
        index = waiting.pop()
        for other in graph.readers(index) if forward else graph.makers(index):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def _gains_nothing(graph: FloatGraph, index: int, half: set[int]) -> bool:
    """True for a node that would only be wrapped in casts."""
    node = graph.nodes[index]
    makers = _feeding(graph, index)
    readers = _through_quantization(graph, index, forward=True)
    fed = any(i in half for i in makers)
    read = any(i in half for i in readers)
    if node.op_type in NEVER_LAST:
        return not (fed and read)
    if node.op_type in ("Gemm", "MatMul"):
        return not (fed or read) and bool(makers)
    return node.op_type not in HEAVY and not fed


def _feeding(graph: FloatGraph, index: int) -> list[int]:
    """The nodes whose results a node computes from, Q/DQ and constants apart."""
    return [i for i in _through_quantization(graph, index, forward=False) if i in graph.computed]


def _through_quantization(graph: FloatGraph, index: int, *, forward: bool) -> list[int]:
    """Makers or readers of a node, looking through Q/DQ pairs."""
    found: list[int] = []
    waiting = [index]
    while waiting:
        at = waiting.pop()
        for other in graph.readers(at) if forward else graph.makers(at):
            if graph.nodes[other].op_type in (QUANTIZE, DEQUANTIZE):
                waiting.append(other)
            else:
                found.append(other)
    return found


def _settle_quantization(graph: FloatGraph, half: set[int], kept: list[int]) -> set[int]:
    """The Q/DQ nodes that become half: Q as what it reads, DQ as all who read it.

    A scale that half cannot hold takes the heavy nodes that it serves out of `half`.
    """
    settled: set[int] = set()
    for index in _dequantizers(graph):
        readers = graph.readers(index)
        if not readers or not all(reader in half for reader in readers):
            continue
        if graph.holds(index, 1, WORST_SCALE_ERROR):
            settled.add(index)
            continue
        lost = [r for r in readers if graph.nodes[r].op_type in HEAVY]
        kept += [r for r in lost if r in half]
        half -= set(lost)
    # A DQ that shares its reader with one of those must follow it back.
    settled = {i for i in settled if all(reader in half for reader in graph.readers(i))}
    for index, node in enumerate(graph.nodes):
        if node.op_type != QUANTIZE or not graph.holds(index, 1, WORST_SCALE_ERROR):
            continue
        makers = graph.makers(index)
        constant = index not in graph.computed
        if constant and graph.holds(index, 0, 1.0):
            wide = [r for r in graph.readers(index) if r in settled]
            settled |= {index} if wide else set()
        elif makers and all(maker in half or maker in settled for maker in makers):
            settled.add(index)
    return settled


def _dequantizers(graph: FloatGraph) -> Iterator[int]:
    return (i for i, node in enumerate(graph.nodes) if node.op_type == DEQUANTIZE)


def _fits(graph: FloatGraph, index: int) -> bool:
    """Whether half can hold a node's float32 constants at all (65504 at most)."""
    return all(graph.holds(index, place, 1.0) for place in range(len(graph.nodes[index].input)))
