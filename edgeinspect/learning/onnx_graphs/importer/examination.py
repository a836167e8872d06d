"""Runs a foreign graph on samples, and interprets it or asks for options that it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, Pixels
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.learning.onnx_graphs.graph import copy_model, opset_version, serialize_model
from edgeinspect.learning.onnx_graphs.importer.contract_graph import RESIZE_MODE_OPSET
from edgeinspect.learning.onnx_graphs.importer.inputs import find_input
from edgeinspect.learning.onnx_graphs.importer.outputs import choose_output, interpret_output
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
    UndeterminedOptionError,
)
from edgeinspect.learning.onnx_graphs.importer.unsupported_models import (
    IMAGE_SIDES,
    all_nodes,
    check_map_proportions,
    invert_half,
    raise_not_spatial,
    responds_locally,
)
from edgeinspect.learning.onnx_graphs.importer.verification import prepare_input
from edgeinspect.learning.onnx_graphs.session import open_session, run_session

if TYPE_CHECKING:
    import onnx


def examine_model(
    model: onnx.ModelProto, request: ImportRequest, frames: list[tuple[str, Pixels]]
) -> tuple[list[str], list[NDArray[Any]], GraphInterpretation]:
    """Interpret the graph, and ask for all options that it leaves open at once.

    Returns:
        What was found, the outputs on the samples, and the interpretation.

    Raises:
        UsageError: One or more options are missing.
        EdgeInspectError: The graph cannot be used.
    """
    missing: dict[str, UndeterminedOptionError] = {}
    while True:
        notes: list[str] = []
        try:
            input_spec = find_input(model, request, notes)
            notes += _opset_notes(model)
            outputs, reading = _interpret(model, request, input_spec, frames, notes)
        except UndeterminedOptionError as error:
            if error.remedy in missing:
                break
            missing[error.remedy] = error
            assumed: Any = error.assumed
            request = replace(request, **assumed)
            continue
        except EdgeInspectError:
            if not missing:
                raise
            break  # perhaps an assumption is wrong
        if not missing:
            return notes, outputs, reading
        break
    first, *others = missing.values()
    if not others:
        raise first
    raise UsageError(
        "; ".join(each.what for each in missing.values()),
        where=str(request.file),
        remedy=". ".join(missing),
    )


def _opset_notes(model: onnx.ModelProto) -> Iterator[str]:
    ops = {node.op_type for node in all_nodes(model.graph)}
    if (opset := opset_version(model)) < RESIZE_MODE_OPSET and ops & {"Upsample", "Resize"}:
        yield (
            f"opset {opset} does not state the resize mode, and the exporter may have meant "
            "another: export it at opset 11 or later (or run onnx.version_converter), and compare"
        )


def _interpret(
    model: onnx.ModelProto,
    request: ImportRequest,
    input_spec: InputSpec,
    frames: list[tuple[str, Pixels]],
    notes: list[str],
) -> tuple[list[NDArray[Any]], GraphInterpretation]:
    """Run the foreign graph on every sample and interpret its output."""
    where = str(request.file)
    session = open_session(model.SerializeToString(), where)
    names = [value.name for value in session.get_outputs()]
    first = {input_spec.name: prepare_input(frames[0][1], request, input_spec)}
    outputs = zip(names, run_session(session, first, None, where), strict=True)
    values = {name: value for name, value in outputs if isinstance(value, np.ndarray)}
    name, is_intermediate = choose_output(model, request, values, notes)
    if is_intermediate:
        session = open_session(_expose_output(model, name), where)
    first_value = values.get(name)
    if request.kind is ModelKind.SEGMENTER and first_value is not None and first_value.ndim == 3:
        check_map_proportions(name, first_value.shape, first_value.shape[1:], request, input_spec)
        for side in IMAGE_SIDES:
            other = {input_spec.name: invert_half(first[input_spec.name], input_spec.layout, side)}
            changed = run_session(session, other, [name], where)[0]
            if not responds_locally(first_value, changed, side):
                raise_not_spatial(name, first_value.shape, request)
    raw_outputs = []
    for _sample, pixels in frames:
        given = {input_spec.name: prepare_input(pixels, request, input_spec)}
        raw_outputs.append(run_session(session, given, [name], where)[0])
    output_spec = interpret_output(model, request, input_spec, name, raw_outputs, notes)
    return raw_outputs, GraphInterpretation(input_spec, output_spec, tuple(notes))


def _expose_output(model: onnx.ModelProto, name: str) -> bytes:
    """Return the graph with one more output."""
    import onnx

    copy = copy_model(model)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return serialize_model(copy)
