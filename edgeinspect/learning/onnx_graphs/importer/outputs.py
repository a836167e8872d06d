"""Finding out what comes out of a foreign graph: which output, of which meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind
from edgeinspect.errors import ModelError, UsageError
from edgeinspect.learning.onnx_graphs.importer.model_kind import check_map_proportions
from edgeinspect.learning.onnx_graphs.importer.request import (
    Activation,
    ImportRequest,
    InputSpec,
    Layout,
    OutputSpec,
    check_stride,
)

if TYPE_CHECKING:
    import onnx

_PASS_THROUGH_OPS = frozenset(
    ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Resize")
)
"""What may stand between an activation and the output it belongs to."""
_PROBABILITY_TOLERANCE = 2e-3
"""What a probability may be outside 0 to 1, and a sum of them beside 1 (float16)."""


def choose_output(
    model: onnx.ModelProto,
    request: ImportRequest,
    values: dict[str, NDArray[Any]],
    findings: list[str],
) -> tuple[str, bool]:
    """Which tensor holds the answer, and whether it is inside the graph.

    Args:
        model: The foreign graph.
        request: What is known.
        values: The graph's outputs, by name, on one sample.
        findings: Appended to.

    Raises:
        UsageError: Several could be it; names them.
        ModelError: None can, or it is an arg-max whose input cannot be found.
    """
    where = str(request.file)
    listing = ", ".join(f"{name} {values[name].shape}" for name in values)
    if request.output_name is not None:
        if request.output_name not in values:
            raise UsageError(
                f"the graph has no output '{request.output_name}'",
                where="--output-name",
                remedy=f"It has: {listing}",
            )
        name = request.output_name
    else:
        fitting = [name for name in values if _fits_kind(request.kind, values[name])]
        if not fitting:
            raise ModelError(
                f"no output fits a {request.kind.value}: {listing}",
                where=where,
                remedy="Correct --kind, or export the network with a plain output",
            )
        if len(fitting) > 1:
            raise UsageError(
                f"several outputs could be meant: {listing}", remedy="Name one with --output-name"
            )
        name = fitting[0]
        if len(values) > 1:
            findings.append(f"output {name}, the only one of the right shape among: {listing}")
    inner = _argmax_input(model, name)
    if inner is None and np.issubdtype(values[name].dtype, np.floating):
        return name, False
    if inner is None:
        raise ModelError(
            f"output {name} is {values[name].dtype}: class numbers without probabilities",
            where=where,
            remedy="Export the network without its arg-max",
        )
    findings.append(f"the graph ends in an arg-max: its input {inner} is used")
    return inner, True


def _fits_kind(kind: ModelKind, value: NDArray[Any]) -> bool:
    cells = sorted(value.shape)
    if kind is ModelKind.GATE:  # one vector
        return value.size > 0 and value.size == (cells[-1] if cells else 1)
    return value.ndim in (3, 4) and cells[-2] > 1


def interpret_output(
    model: onnx.ModelProto,
    request: ImportRequest,
    intake: InputSpec,
    chosen: tuple[str, bool],
    raws: Sequence[NDArray[Any]],
    findings: list[str],
) -> OutputSpec:
    """What the chosen tensor means.

    Args:
        model: The foreign graph.
        request: What is known.
        intake: As found.
        chosen: As `choose_output` gave it.
        raws: The tensor on every sample.
        findings: Appended to.

    Raises:
        UsageError: The graph leaves open what an option must say, or contradicts one.
        ModelError: The tensor cannot be what the request says.
    """
    name, is_inner = chosen
    ending = _final_activation(model, name)
    if ending is not None:
        findings.append(f"{ending} stands at the end: {name} holds probabilities")
    applied = _is_activation_applied(request, ending)
    shape = raws[0].shape
    if request.kind is ModelKind.GATE:
        if not _fits_kind(ModelKind.GATE, raws[0]):
            raise ModelError(
                f"{name} of shape {tuple(shape)} is no answer to a whole picture: a gate gives one "
                "number per class",
                where=str(request.file),
                remedy="Import a classifier, or train one: edgeinspect train gate",
            )
        outputs = raws[0].size
        activation = _gate_activation(request, outputs, ending, findings)
        outcome = OutputSpec(
            name, is_inner, outputs, "nchw", len(shape), activation, applied, raws[0].dtype
        )
        _check_indices(request, outputs, activation)
    else:
        layout, outputs, activation = _map_layout(request, intake, shape, ending, findings)
        height, width = map_size(shape, layout)
        check_map_proportions(name, shape, (height, width), request, intake)
        stride = _output_stride(request, height, width, findings)
        outcome = OutputSpec(
            name,
            is_inner,
            outputs,
            layout,
            len(shape),
            activation,
            applied,
            raws[0].dtype,
            height,
            width,
            stride,
        )
    _check_value_range(request, outcome, raws)
    return outcome


def map_size(shape: Sequence[int], layout: Layout) -> tuple[int, int]:
    """Height and width of a map of three or four dimensions."""
    at = 1 if len(shape) == 3 or layout == "nhwc" else 2
    return shape[at], shape[at + 1]


def _is_activation_applied(request: ImportRequest, ending: str | None) -> bool:
    if ending is not None and request.output == "logits":
        raise UsageError(
            f"the graph ends in {ending}: those are no logits",
            where="--output",
            remedy="Give --output probs, or leave it out",
        )
    asked = request.activation
    if ending is not None and asked in ("sigmoid", "softmax") and asked != ending.lower():
        raise UsageError(f"the graph ends in {ending}", where="--activation", remedy="Leave it out")
    return ending is not None or request.output == "probs" or asked == "none"


def _gate_activation(
    request: ImportRequest, outputs: int, ending: str | None, findings: list[str]
) -> Activation:
    if request.classes and len(request.classes) != outputs:
        raise ModelError(
            f"the network has {outputs} outputs, --classes names {len(request.classes)}",
            where=str(request.file),
            remedy="Name every output, in order, or leave --classes out",
        )
    if ending is not None:
        found: Activation = "sigmoid" if ending == "Sigmoid" else "softmax"
    elif request.activation in ("sigmoid", "softmax"):
        found = "sigmoid" if request.activation == "sigmoid" else "softmax"
    else:
        found = "sigmoid" if outputs == 1 else "softmax"
        findings.append(f"{found}, from its {outputs} output{'s' * (outputs != 1)}")
    if found == "softmax" and outputs == 1:
        raise UsageError(
            "a softmax of one output is always 1",
            where="--activation",
            remedy="Give --activation sigmoid",
        )
    return found


def _check_indices(request: ImportRequest, outputs: int, activation: Activation) -> None:
    for option, index in (
        ("--defect-index", request.defect_index),
        ("--good-index", request.good_index),
    ):
        if index is not None and not 0 <= index < outputs:
            raise UsageError(
                f"{index} is none of the network's {outputs} outputs, from 0", where=option
            )
        if index is not None:
            return
    if activation == "sigmoid" and outputs > 1:
        return  # any of several kinds of defect
    raise UsageError(
        "which output stands for good and which for defective cannot be told",
        remedy="Give --good-index I or --defect-index I, from 0 (with one output: 0)",
    )


def _map_layout(
    request: ImportRequest,
    intake: InputSpec,
    shape: Sequence[int],
    ending: str | None,
    findings: list[str],
) -> tuple[Layout, int, Activation]:
    """Layout, channels and activation of a map, from its sizes and the number of classes."""
    kinds = len(request.classes)
    if request.background == "none" and (ending == "Softmax" or request.activation == "softmax"):
        raise UsageError(
            "a softmax without background calls every pixel defective",
            where="--background",
            remedy="Give --background first",
        )
    wanted: dict[int, Activation] = {}
    with_background = request.background != "none"
    sigmoid = ending == "Sigmoid" or request.activation == "sigmoid"
    softmax = ending == "Softmax" or request.activation == "softmax"
    if not softmax and request.background != "first":
        wanted[kinds] = "sigmoid"
    if with_background and not (sigmoid and request.background is None):
        wanted[kinds + 1] = "sigmoid" if sigmoid else "softmax"
    axes = {1: "nchw", 3: "nhwc"} if len(shape) == 4 else {}
    if request.output_layout is not None and axes:
        axes = {at: name for at, name in axes.items() if name == request.output_layout}
    found = [at for at in axes if shape[at] in wanted] if axes else []
    if len(shape) == 3 and 1 in wanted:
        findings.append("a map without channels: one class, by a sigmoid")
        return "nchw", 1, wanted[1]
    if not found:
        channels = shape[3 if intake.layout == "nhwc" else 1] if len(shape) == 4 else 1
        need = " or ".join(f"{count} ({name})" for count, name in wanted.items())
        raise ModelError(
            f"output of shape {tuple(shape)} has {channels} channels; {kinds} classes take {need}",
            where=str(request.file),
            remedy="Name the classes without background; see --background and --activation",
        )
    if len(found) > 1:
        raise UsageError(
            f"whether output {tuple(shape)} has its channels first or last cannot be told",
            remedy="Give --output-layout nchw or nhwc",
        )
    layout: Layout = "nchw" if found[0] == 1 else "nhwc"
    channels = shape[found[0]]
    findings.append(
        f"{channels} channels as {layout}: {wanted[channels]}"
        f"{' with background first' if channels == kinds + 1 else ''}"
    )
    return layout, channels, wanted[channels]


def _output_stride(request: ImportRequest, height: int, width: int, findings: list[str]) -> int:
    if request.stride is not None:
        stride = request.stride
    else:
        ratio = math.sqrt(request.height_px / height * request.width_px / width)
        fitting = [
            s for s in range(1, 65) if request.height_px % s == 0 and request.width_px % s == 0
        ]
        stride = min(fitting, key=lambda s: abs(math.log(s / ratio)))
        findings.append(f"output stride {stride}")
    check_stride(request, stride)
    cells = (request.height_px // stride, request.width_px // stride)
    if cells != (height, width):
        findings.append(
            f"the map is resized from {height}x{width} to {cells[0]}x{cells[1]} "
            "as the network gives it, linearly"
        )
    return stride


def _check_value_range(
    request: ImportRequest, outcome: OutputSpec, raws: Sequence[NDArray[Any]]
) -> None:
    """Numbers on samples must look like what they are said to be."""
    axis = (3 if outcome.layout == "nhwc" else 1) if outcome.rank == 4 else -1
    low = min(float(raw.min()) for raw in raws)
    high = max(float(raw.max()) for raw in raws)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelError(
            f"{outcome.name} is not finite on the samples",
            where=str(request.file),
            remedy="Correct --scale, --mean and --std, or the network",
        )
    inside = between = low >= -_PROBABILITY_TOLERANCE and high <= 1 + _PROBABILITY_TOLERANCE
    if inside and outcome.activation == "softmax":
        flat = [raw.reshape(1, -1) if request.kind is ModelKind.GATE else raw for raw in raws]
        sums = [
            raw.astype(np.float64).sum(1 if request.kind is ModelKind.GATE else axis)
            for raw in flat
        ]
        inside = all(bool(np.abs(total - 1).max() < 5 * _PROBABILITY_TOLERANCE) for total in sums)
    span = f"{outcome.name} is from {low:.3g} to {high:.3g} on the samples"
    if outcome.activation_applied and not inside:
        raise UsageError(
            f"{span}: no probabilities of a {outcome.activation}",
            where="--output",
            remedy="Give --output logits, or another --activation",
        )
    if not outcome.activation_applied and between and request.output is None:
        raise UsageError(
            f"{span}: logits or probabilities cannot be told",
            remedy="Give --output logits or --output probs",
        )


def _final_activation(model: onnx.ModelProto, name: str) -> str | None:
    """`Sigmoid` or `Softmax` where a tensor comes out of one."""
    makers = {output: node for node in model.graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        if node.op_type in ("Sigmoid", "Softmax"):
            return str(node.op_type)
        if node.op_type not in _PASS_THROUGH_OPS:
            return None
        name = node.input[0]
    return None


def _argmax_input(model: onnx.ModelProto, name: str) -> str | None:
    makers = {output: node for node in model.graph.node for output in node.output}
    while name in makers:
        node = makers[name]
        if node.op_type == "ArgMax":
            return str(node.input[0])
        if node.op_type not in _PASS_THROUGH_OPS:
            return None
        name = node.input[0]
    return None
