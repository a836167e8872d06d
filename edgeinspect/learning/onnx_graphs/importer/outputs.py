"""Interpretation of a foreign graph's outputs: which tensor, layout and activation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind
from edgeinspect.errors import ModelError, UsageError
from edgeinspect.learning.onnx_graphs.importer.request import (
    Activation,
    ImportRequest,
    InputSpec,
    Layout,
    OutputSpec,
    UndeterminedOptionError,
    check_stride,
)
from edgeinspect.learning.onnx_graphs.importer.unsupported_models import check_map_proportions

if TYPE_CHECKING:
    import onnx

_PASS_THROUGH_OPS = frozenset(
    ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose", "Resize")
)
"""Operators allowed between an activation and its output."""
_PROBABILITY_TOLERANCE = 2e-3
"""Tolerated excess of a probability beyond 0 to 1, and deviation of a sum from 1 (float16)."""


def choose_output(
    model: onnx.ModelProto,
    request: ImportRequest,
    values: dict[str, NDArray[Any]],
    notes: list[str],
) -> tuple[str, bool]:
    """Return the tensor with the result, and whether it is an intermediate tensor.

    Args:
        model: The foreign graph.
        request: What the user specified.
        values: The graph's outputs on one sample, by name.
        notes: Receives what was inferred.

    Raises:
        UsageError: Several outputs are possible.
        ModelError: No output fits, or it is an arg-max without a known input.
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
                f"several outputs are possible: {listing}", remedy="Name one with --output-name"
            )
        name = fitting[0]
        if len(values) > 1:
            notes.append(f"output {name}, the only one of the right shape among: {listing}")
    source = _argmax_input(model, name)
    if source is None and np.issubdtype(values[name].dtype, np.floating):
        return name, False
    if source is None:
        raise ModelError(
            f"output {name} is {values[name].dtype}: class indices without probabilities",
            where=where,
            remedy="Export the network without its arg-max",
        )
    notes.append(f"the graph ends in an arg-max: its input {source} is used")
    return source, True


def _fits_kind(kind: ModelKind, value: NDArray[Any]) -> bool:
    cells = sorted(value.shape)
    if kind is ModelKind.GATE:  # one vector
        return value.size > 0 and value.size == (cells[-1] if cells else 1)
    return value.ndim in (3, 4) and cells[-2] > 1


def interpret_output(
    model: onnx.ModelProto,
    request: ImportRequest,
    input_spec: InputSpec,
    name: str,
    raw_outputs: Sequence[NDArray[Any]],
    notes: list[str],
) -> OutputSpec:
    """Return the meaning of the chosen tensor.

    Args:
        model: The foreign graph.
        request: What the user specified.
        input_spec: The image input.
        name: The tensor that `choose_output` returned.
        raw_outputs: The tensor's value on each sample.
        notes: Receives what was inferred.

    Raises:
        UsageError: The graph is ambiguous, or contradicts an option.
        ModelError: The tensor does not fit the request.
    """
    final_activation = _final_activation(model, name)
    if final_activation is not None:
        notes.append(f"the graph ends in {final_activation}: {name} contains probabilities")
    applied = _is_activation_applied(request, final_activation)
    shape = raw_outputs[0].shape
    if request.kind is ModelKind.GATE:
        if not _fits_kind(ModelKind.GATE, raw_outputs[0]):
            raise ModelError(
                f"{name} of shape {tuple(shape)} does not classify a whole image: a gate outputs "
                "one number per class",
                where=str(request.file),
                remedy="Import a classifier, or train one: edgeinspect train gate",
            )
        layout: Layout = "nchw"
        outputs = raw_outputs[0].size
        activation = _gate_activation(request, outputs, final_activation, notes)
        _check_indices(request, outputs, activation)
        height, width, stride = 1, 1, 1
    else:
        layout, outputs, activation = _map_layout(
            request, input_spec, shape, final_activation, notes
        )
        height, width = map_size(shape, layout)
        check_map_proportions(name, shape, (height, width), request, input_spec)
        stride = _output_stride(request, height, width, notes)
    output_spec = OutputSpec(
        name=name,
        channels=outputs,
        layout=layout,
        rank=len(shape),
        activation=activation,
        activation_applied=applied,
        dtype=raw_outputs[0].dtype,
        height=height,
        width=width,
        stride=stride,
    )
    _check_value_range(request, output_spec, raw_outputs)
    return output_spec


def map_size(shape: Sequence[int], layout: Layout) -> tuple[int, int]:
    """Return height and width of a map with three or four dimensions."""
    at = 1 if len(shape) == 3 or layout == "nhwc" else 2
    return shape[at], shape[at + 1]


def _is_activation_applied(request: ImportRequest, final_activation: str | None) -> bool:
    if final_activation is not None and request.output == "logits":
        raise UsageError(
            f"the graph ends in {final_activation}: its outputs are not logits",
            where="--output",
            remedy="Give --output probs, or leave it out",
        )
    requested = request.activation
    if (
        final_activation is not None
        and requested in ("sigmoid", "softmax")
        and requested != final_activation.lower()
    ):
        raise UsageError(
            f"the graph ends in {final_activation}", where="--activation", remedy="Leave it out"
        )
    return final_activation is not None or request.output == "probs" or requested == "none"


def _gate_activation(
    request: ImportRequest, outputs: int, final_activation: str | None, notes: list[str]
) -> Activation:
    if request.classes and len(request.classes) != outputs:
        raise ModelError(
            f"the network has {outputs} outputs, --classes names {len(request.classes)}",
            where=str(request.file),
            remedy="Name every output, in order, or leave --classes out",
        )
    if final_activation is not None:
        chosen: Activation = "sigmoid" if final_activation == "Sigmoid" else "softmax"
    elif request.activation in ("sigmoid", "softmax"):
        chosen = "sigmoid" if request.activation == "sigmoid" else "softmax"
    else:
        chosen = "sigmoid" if outputs == 1 else "softmax"
        notes.append(f"{chosen}, from its {outputs} output{'s' * (outputs != 1)}")
    if chosen == "softmax" and outputs == 1:
        raise UsageError(
            "a softmax of one output is always 1",
            where="--activation",
            remedy="Give --activation sigmoid",
        )
    return chosen


def _check_indices(request: ImportRequest, outputs: int, activation: Activation) -> None:
    for option, index in (
        ("--defect-index", request.defect_index),
        ("--good-index", request.good_index),
    ):
        if index is not None and not 0 <= index < outputs:
            raise UsageError(
                f"{index} is not one of the network's {outputs} outputs, counted from 0",
                where=option,
            )
        if index is not None:
            return
    if request.kinds_only:
        if activation == "sigmoid" or outputs < 2:
            raise UsageError(
                "goes with a softmax of two or more outputs",
                where="--kinds-only",
                remedy="With sigmoids leave it out: each output then is a defect of its own",
            )
        return
    if activation == "sigmoid" and outputs > 1:
        return  # each output is a defect class of its own
    raise UndeterminedOptionError(
        "the graph does not show which output means good and which defective",
        remedy="Give --good-index I or --defect-index I, from 0 (with one output: 0); "
        "--kinds-only if every output is a kind of defect",
        assumed={"good_index": 0},
    )


def _map_layout(
    request: ImportRequest,
    input_spec: InputSpec,
    shape: Sequence[int],
    final_activation: str | None,
    notes: list[str],
) -> tuple[Layout, int, Activation]:
    """Return layout, channels and activation of a map, from its shape and the class count."""
    class_count = len(request.classes)
    if request.background == "none" and (
        final_activation == "Softmax" or request.activation == "softmax"
    ):
        raise UsageError(
            "a softmax without background marks every pixel defective",
            where="--background",
            remedy="Give --background first",
        )
    wanted: dict[int, Activation] = {}
    with_background = request.background != "none"
    sigmoid = final_activation == "Sigmoid" or request.activation == "sigmoid"
    softmax = final_activation == "Softmax" or request.activation == "softmax"
    if not softmax and request.background != "first":
        wanted[class_count] = "sigmoid"
    if with_background and not (sigmoid and request.background is None):
        wanted[class_count + 1] = "sigmoid" if sigmoid else "softmax"
    axes = {1: "nchw", 3: "nhwc"} if len(shape) == 4 else {}
    if request.output_layout is not None and axes:
        axes = {at: name for at, name in axes.items() if name == request.output_layout}
    chosen = [at for at in axes if shape[at] in wanted] if axes else []
    if len(shape) == 3 and 1 in wanted:
        notes.append("a map without channels: one class, by a sigmoid")
        return "nchw", 1, wanted[1]
    if not chosen:
        channels = shape[3 if input_spec.layout == "nhwc" else 1] if len(shape) == 4 else 1
        need = " or ".join(f"{count} ({name})" for count, name in wanted.items())
        raise ModelError(
            f"output of shape {tuple(shape)} has {channels} channels; {class_count} classes "
            f"take {need}",
            where=str(request.file),
            remedy="Name the classes without background; see --background and --activation",
        )
    if len(chosen) > 1:
        raise UndeterminedOptionError(
            f"output {tuple(shape)} may have its channels first or last",
            remedy="Give --output-layout nchw or nhwc",
            assumed={"output_layout": "nchw"},
        )
    layout: Layout = "nchw" if chosen[0] == 1 else "nhwc"
    channels = shape[chosen[0]]
    notes.append(
        f"{channels} channels as {layout}: {wanted[channels]}"
        f"{' with background first' if channels == class_count + 1 else ''}"
    )
    return layout, channels, wanted[channels]


def _output_stride(request: ImportRequest, height: int, width: int, notes: list[str]) -> int:
    if request.stride is not None:
        stride = request.stride
    else:
        ratio = math.sqrt(request.height_px / height * request.width_px / width)
        fitting = [
            s for s in range(1, 65) if request.height_px % s == 0 and request.width_px % s == 0
        ]
        stride = min(fitting, key=lambda s: abs(math.log(s / ratio)))
        notes.append(f"output stride {stride}")
    check_stride(request, stride)
    cells = (request.height_px // stride, request.width_px // stride)
    if cells != (height, width):
        notes.append(f"the map is resized from {height}x{width} to {cells[0]}x{cells[1]} linearly")
    return stride


def _check_value_range(
    request: ImportRequest, output_spec: OutputSpec, raw_outputs: Sequence[NDArray[Any]]
) -> None:
    """Raise if the values on the samples contradict the assumed activation."""
    axis = (3 if output_spec.layout == "nhwc" else 1) if output_spec.rank == 4 else -1
    low = min(float(raw.min()) for raw in raw_outputs)
    high = max(float(raw.max()) for raw in raw_outputs)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelError(
            f"{output_spec.name} is not finite on the samples",
            where=str(request.file),
            remedy="Correct --scale, --mean and --std, or the network",
        )
    sums_to_one = in_unit_range = (
        low >= -_PROBABILITY_TOLERANCE and high <= 1 + _PROBABILITY_TOLERANCE
    )
    if sums_to_one and output_spec.activation == "softmax":
        flat = [
            raw.reshape(1, -1) if request.kind is ModelKind.GATE else raw for raw in raw_outputs
        ]
        sums = [
            raw.astype(np.float64).sum(1 if request.kind is ModelKind.GATE else axis)
            for raw in flat
        ]
        sums_to_one = all(
            bool(np.abs(total - 1).max() < 5 * _PROBABILITY_TOLERANCE) for total in sums
        )
    value_range = f"{output_spec.name} is from {low:.3g} to {high:.3g} on the samples"
    if output_spec.activation_applied and not sums_to_one:
        raise UsageError(
            f"{value_range}: these are not probabilities of a {output_spec.activation}",
            where="--output",
            remedy="Give --output logits, or another --activation",
        )
    if not output_spec.activation_applied and in_unit_range and request.output is None:
        raise UndeterminedOptionError(
            f"{value_range}: they may be logits or probabilities",
            remedy="Give --output logits or --output probs",
            assumed={"output": "probs"},
        )


def _final_activation(model: onnx.ModelProto, name: str) -> str | None:
    """Return `Sigmoid` or `Softmax` if a tensor is the result of one."""
    producers = {output: node for node in model.graph.node for output in node.output}
    while name in producers:
        node = producers[name]
        if node.op_type in ("Sigmoid", "Softmax"):
            return str(node.op_type)
        if node.op_type not in _PASS_THROUGH_OPS:
            return None
        name = node.input[0]
    return None


def _argmax_input(model: onnx.ModelProto, name: str) -> str | None:
    producers = {output: node for node in model.graph.node for output in node.output}
    while name in producers:
        node = producers[name]
        if node.op_type == "ArgMax":
            return str(node.input[0])
        if node.op_type not in _PASS_THROUGH_OPS:
            return None
        name = node.input[0]
    return None
