"""Building the contract graph around a foreign graph: raw frames in, small results out.

TensorRT requires the order Cast, then Transpose. Source: docs/reference/models.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeinspect.domain import ModelKind
from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.graph import copy_model, error_text, opset_version
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
    OutputSpec,
    kind_indices,
)
from edgeinspect.learning.onnx_graphs.importer.unsupported_models import all_nodes
from edgeinspect.learning.onnx_graphs.manifest import MIN_CONTRACT_OPSET

if TYPE_CHECKING:
    import onnx

RESIZE_MODE_OPSET = 11
"""From this opset on, a graph states its resize mode."""
FOREIGN_PREFIX = "network/"
"""Prefix of every name of the foreign graph, against collisions with ours."""


class _NodeWriter:
    """Collects nodes and constants. Not thread-safe."""

    def __init__(self) -> None:
        self._count = 0
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, op: str, inputs: Sequence[str], out: str = "", **attributes: Any) -> str:
        """Append a node; return its output's name."""
        from onnx import helper

        self._count += 1  # `nodes` may be emptied
        name = out or f"contract/{op.lower()}_{self._count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Append a constant; return its name."""
        from onnx import numpy_helper

        name = f"contract/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def indices(self, *values: int) -> str:
        """Append a one-dimensional int64 constant; return its name."""
        return self.constant(values, np.int64)


def build_contract_graph(
    model: onnx.ModelProto, request: ImportRequest, interpretation: GraphInterpretation
) -> onnx.ModelProto:
    """Return the foreign graph with the contract's input and outputs. `model` is not changed.

    Raises:
        ModelError: Its opset cannot be upgraded to the contract's, or the result is invalid.
    """
    import onnx
    from onnx import TensorProto, compose, helper

    where = str(request.file)
    inner = upgrade_opset(model, where)
    inner = compose.add_prefix(inner, FOREIGN_PREFIX)
    writer = _NodeWriter()
    _add_preprocessing(writer, request, interpretation.input_spec)
    entry = list(writer.nodes)
    writer.nodes.clear()
    source = FOREIGN_PREFIX + interpretation.output_spec.name
    if interpretation.output_spec.dtype != np.float32:
        source = writer.node("Cast", [source], to=TensorProto.FLOAT)
    if request.kind is ModelKind.GATE:
        outputs = _add_gate_outputs(writer, source, request, interpretation.output_spec)
    else:
        outputs = _add_segmenter_outputs(writer, source, request, interpretation.output_spec)
    dims = [1, request.height_px, request.width_px, request.channels]
    graph = helper.make_graph(
        [*entry, *inner.graph.node, *writer.nodes],
        request.kind.value,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, dims)],
        outputs,
        [*inner.graph.initializer, *writer.constants],
        sparse_initializer=list(inner.graph.sparse_initializer),
    )
    built = helper.make_model(
        graph, opset_imports=list(inner.opset_import), functions=list(inner.functions)
    )
    built.ir_version = max(9, inner.ir_version)
    try:
        onnx.checker.check_model(built, full_check=True)
    except Exception as error:
        raise ModelError(
            f"with the contract it is not a valid graph: {error_text(error)}",
            where=where,
            remedy="Correct --input-layout, or name with --model-size a size that it takes",
        ) from error
    return built


def upgrade_opset(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return a copy at the contract's opset or above.

    Raises:
        ModelError: An operator cannot be converted.
    """
    from onnx import version_converter

    copy = copy_model(model)
    version = opset_version(copy)
    if version >= MIN_CONTRACT_OPSET:
        return copy
    try:
        upgraded = version_converter.convert_version(copy, MIN_CONTRACT_OPSET)
        if version < RESIZE_MODE_OPSET:
            _set_legacy_resize_mode(upgraded)
        return upgraded
    except Exception as error:
        raise ModelError(
            f"opset {version} cannot be upgraded to {MIN_CONTRACT_OPSET}: {error_text(error)}",
            where=where,
            remedy=f"Export it with opset {MIN_CONTRACT_OPSET}, or {RESIZE_MODE_OPSET} or later; "
            "or run onnx.version_converter.convert_version on it, and compare the results",
        ) from error


def _set_legacy_resize_mode(model: onnx.ModelProto) -> None:
    """Set the resize mode of opsets below 11, which the converter drops."""
    from onnx import helper

    for node in all_nodes(model.graph):
        names = {attribute.name for attribute in node.attribute}
        if node.op_type == "Resize" and "coordinate_transformation_mode" not in names:
            node.attribute.append(
                helper.make_attribute("coordinate_transformation_mode", "asymmetric")
            )
            node.attribute.append(helper.make_attribute("nearest_mode", "floor"))


def _add_preprocessing(writer: _NodeWriter, request: ImportRequest, input_spec: InputSpec) -> None:
    """Add the conversion of uint8 (1, H, W, C) to the network's input."""
    from onnx import TensorProto, helper

    x = writer.node("Cast", ["image"], to=TensorProto.FLOAT)
    x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    if input_spec.channels != request.channels:
        x = writer.node("Concat", [x] * input_spec.channels, axis=1)
    if input_spec.channels_swapped:
        x = writer.node("Gather", [x, writer.indices(2, 1, 0)], axis=1)
    if (input_spec.height_px, input_spec.width_px) != (request.height_px, request.width_px):
        x = _resize(writer, x, input_spec.channels, input_spec.height_px, input_spec.width_px)
    std = np.array(input_spec.std, np.float64)
    gain = 1 / (request.scale * std)
    shift = -np.array(input_spec.mean, np.float64) / std
    if (gain != 1).any():
        x = writer.node("Mul", [x, writer.constant(gain.reshape(1, -1, 1, 1))])
    if shift.any():
        x = writer.node("Add", [x, writer.constant(shift.reshape(1, -1, 1, 1))])
    if input_spec.layout == "nhwc":
        x = writer.node("Transpose", [x], perm=[0, 2, 3, 1])
    if input_spec.dtype == np.uint8:
        x = writer.node("Round", [x])  # resizing gives fractions
    if input_spec.dtype == np.float32:
        writer.nodes[-1].output[0] = FOREIGN_PREFIX + input_spec.name
        return
    to = helper.np_dtype_to_tensor_dtype(np.dtype(input_spec.dtype))
    writer.node("Cast", [x], FOREIGN_PREFIX + input_spec.name, to=to)


def _resize(writer: _NodeWriter, x: str, channels: int, height: int, width: int) -> str:
    sizes = writer.indices(1, channels, height, width)
    return writer.node(
        "Resize", [x, "", "", sizes], mode="linear", coordinate_transformation_mode="half_pixel"
    )


def _add_gate_outputs(
    writer: _NodeWriter, x: str, request: ImportRequest, output_spec: OutputSpec
) -> list[Any]:
    """Add the conversion of a vector to `defect_prob` (1,), and with kinds to `class_prob`."""
    from onnx import TensorProto, helper

    x = writer.node("Reshape", [x, writer.indices(1, output_spec.channels)])
    if not output_spec.activation_applied:
        softmax = output_spec.activation == "softmax"
        x = writer.node("Softmax", [x], axis=1) if softmax else writer.node("Sigmoid", [x])
    outputs = [helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1])]
    if kinds := kind_indices(request, output_spec):
        writer.node("Gather", [x, writer.indices(*kinds)], "class_prob", axis=1)
        shape = [1, len(kinds)]
        outputs.append(helper.make_tensor_value_info("class_prob", TensorProto.FLOAT, shape))
    if request.kinds_only:  # a constant, and still computed: libraries differ on constant outputs
        x = writer.node("ReduceSum", ["class_prob", writer.indices(1)], keepdims=0)
        one = writer.constant(np.ones(1))
        writer.node("Min", [writer.node("Max", [x, one]), one], "defect_prob")
        return outputs
    index = request.good_index if request.good_index is not None else request.defect_index
    if index is None:
        x = writer.node("ReduceMax", [x, writer.indices(1)], keepdims=0)
    else:
        x = writer.node("Gather", [x, writer.indices(index)], axis=1)
    if request.good_index is not None:
        x = writer.node("Sub", [writer.constant(1.0), x])
    writer.node("Reshape", [x, writer.indices(1)], "defect_prob")
    return outputs


def _add_segmenter_outputs(
    writer: _NodeWriter, x: str, request: ImportRequest, output_spec: OutputSpec
) -> list[Any]:
    """Add the conversion of a map to `class_map`, `class_area_px` and `class_score`."""
    from onnx import TensorProto, helper

    class_count = len(request.classes)
    height, width = request.height_px // output_spec.stride, request.width_px // output_spec.stride
    if output_spec.rank == 3:
        x = writer.node("Unsqueeze", [x, writer.indices(1)])
    elif output_spec.layout == "nhwc":
        x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    if (output_spec.height, output_spec.width) != (height, width):
        x = _resize(writer, x, output_spec.channels, height, width)
    if not output_spec.activation_applied:
        softmax = output_spec.activation == "softmax"
        x = writer.node("Softmax", [x], axis=1) if softmax else writer.node("Sigmoid", [x])
    probs = x
    if output_spec.channels == class_count + 1:
        probs = writer.node(
            "Slice", [x, writer.indices(1), writer.indices(class_count + 1), writer.indices(1)]
        )
    if output_spec.activation == "sigmoid":
        limits = np.broadcast_to(np.array(request.thresholds, np.float32), class_count)
        over = writer.node("Sub", [probs, writer.constant(limits.reshape(1, -1, 1, 1))])
        background = writer.constant(np.zeros((1, 1, height, width)))
        x = writer.node("Concat", [background, over], axis=1)  # arg-max takes the first of equals
    class_plane = writer.node("ArgMax", [x], axis=1, keepdims=1)
    class_plane = writer.node("Cast", [class_plane], to=TensorProto.FLOAT)
    ids = writer.constant(np.arange(1, class_count + 1).reshape(1, -1, 1, 1))
    is_class = writer.node("Cast", [writer.node("Equal", [class_plane, ids])], to=TensorProto.FLOAT)
    plane = writer.indices(2, 3)
    cells = writer.node("ReduceSum", [is_class, plane], keepdims=0)
    area = float(output_spec.stride**2)
    flat = writer.node("Squeeze", [class_plane, writer.indices(1)])
    writer.node("Cast", [flat], "class_map", to=TensorProto.UINT8)
    writer.node("Mul", [cells, writer.constant(area)], "class_area_px")
    total = writer.node("ReduceSum", [writer.node("Mul", [probs, is_class]), plane], keepdims=0)
    writer.node("Div", [total, writer.node("Max", [cells, writer.constant(1.0)])], "class_score")
    return [
        helper.make_tensor_value_info("class_map", TensorProto.UINT8, [1, height, width]),
        helper.make_tensor_value_info("class_area_px", TensorProto.FLOAT, [1, class_count]),
        helper.make_tensor_value_info("class_score", TensorProto.FLOAT, [1, class_count]),
    ]
