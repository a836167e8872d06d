"""Writing the contract around a foreign graph: raw frames in, small results out.

Source: docs/models.md; the order of Cast and Transpose is TensorRT's condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeinspect.domain import ModelKind
from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.importer.inputs import opset_of
from edgeinspect.learning.onnx_graphs.importer.model_kind import all_nodes
from edgeinspect.learning.onnx_graphs.importer.request import (
    GraphInterpretation,
    ImportRequest,
    InputSpec,
    OutputSpec,
)
from edgeinspect.learning.onnx_graphs.manifest import MIN_CONTRACT_OPSET

if TYPE_CHECKING:
    import onnx

RESIZE_MODE_OPSET = 11
"""From here on a graph says how it resizes."""
FOREIGN_PREFIX = "network/"
"""Before every name of the foreign graph, so that ours cannot meet one of them."""


class _NodeWriter:
    """Collects nodes and constants. For one thread."""

    def __init__(self) -> None:
        self._count = 0
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, op: str, inputs: Sequence[str], out: str = "", **attributes: Any) -> str:
        """Append a node; returns its output's name."""
        from onnx import helper

        self._count += 1  # `nodes` may be emptied
        name = out or f"contract/{op.lower()}_{self._count}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Append a constant; returns its name."""
        from onnx import numpy_helper

        name = f"contract/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def indices(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(values, np.int64)


def build_contract_graph(
    model: onnx.ModelProto, request: ImportRequest, reading: GraphInterpretation
) -> onnx.ModelProto:
    """The foreign graph under the contract. `model` is not changed.

    Raises:
        ModelError: Its operators cannot be raised to the opset that the contract asks for,
            or the whole is no valid graph.
    """
    import onnx
    from onnx import TensorProto, compose, helper

    where = str(request.file)
    inner = upgrade_opset(model, where)
    inner = compose.add_prefix(inner, FOREIGN_PREFIX)
    writer = _NodeWriter()
    _add_preprocessing(writer, request, reading.input_spec)
    entry = list(writer.nodes)
    writer.nodes.clear()
    source = FOREIGN_PREFIX + reading.output_spec.name
    if reading.output_spec.dtype != np.float32:
        source = writer.node("Cast", [source], to=TensorProto.FLOAT)
    if request.kind is ModelKind.GATE:
        outputs = _add_gate_outputs(writer, source, request, reading.output_spec)
    else:
        outputs = _add_segmenter_outputs(writer, source, request, reading.output_spec)
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
            f"under the contract it is no valid graph: {' '.join(str(error).split())[:240]}",
            where=where,
            remedy="Correct --layout, or name with --model-size a size that it takes",
        ) from error
    return built


def upgrade_opset(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """A copy at the contract's opset or above.

    Raises:
        ModelError: An operator has no way up.
    """
    import onnx
    from onnx import version_converter

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    version = opset_of(copy)
    if version >= MIN_CONTRACT_OPSET:
        return copy
    try:
        raised = version_converter.convert_version(copy, MIN_CONTRACT_OPSET)
        if version < RESIZE_MODE_OPSET:
            _set_legacy_resize_mode(raised)
        return raised
    except Exception as error:
        raise ModelError(
            f"its opset {version} cannot be raised to {MIN_CONTRACT_OPSET}: "
            f"{' '.join(str(error).split())[:200]}",
            where=where,
            remedy=f"Export it again with opset {MIN_CONTRACT_OPSET}, or "
            f"{RESIZE_MODE_OPSET} at least; or "
            "run onnx.version_converter.convert_version on it, and look at what it gives",
        ) from error


def _set_legacy_resize_mode(model: onnx.ModelProto) -> None:
    """Let what was resized below opset 11 be resized as it was there; the converter forgets it."""
    from onnx import helper

    for node in all_nodes(model.graph):
        names = {attribute.name for attribute in node.attribute}
        if node.op_type == "Resize" and "coordinate_transformation_mode" not in names:
            node.attribute.append(
                helper.make_attribute("coordinate_transformation_mode", "asymmetric")
            )
            node.attribute.append(helper.make_attribute("nearest_mode", "floor"))


def _add_preprocessing(writer: _NodeWriter, request: ImportRequest, intake: InputSpec) -> None:
    """uint8 (1, H, W, C) to what the network was trained on, under its input's name."""
    from onnx import TensorProto, helper

    x = writer.node("Cast", ["image"], to=TensorProto.FLOAT)
    x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    if intake.channels != request.channels:
        x = writer.node("Concat", [x] * intake.channels, axis=1)
    if intake.channels_swapped:
        x = writer.node("Gather", [x, writer.indices(2, 1, 0)], axis=1)
    if (intake.height_px, intake.width_px) != (request.height_px, request.width_px):
        x = _resize(writer, x, intake.channels, intake.height_px, intake.width_px)
    std = np.array(intake.std, np.float64)
    gain = 1 / (request.scale * std)
    shift = -np.array(intake.mean, np.float64) / std
    if (gain != 1).any():
        x = writer.node("Mul", [x, writer.constant(gain.reshape(1, -1, 1, 1))])
    if shift.any():
        x = writer.node("Add", [x, writer.constant(shift.reshape(1, -1, 1, 1))])
    if intake.layout == "nhwc":
        x = writer.node("Transpose", [x], perm=[0, 2, 3, 1])
    if intake.dtype == np.uint8:
        x = writer.node("Round", [x])  # a resized grey level
    if intake.dtype == np.float32:
        writer.nodes[-1].output[0] = FOREIGN_PREFIX + intake.name
        return
    to = helper.np_dtype_to_tensor_dtype(np.dtype(intake.dtype))
    writer.node("Cast", [x], FOREIGN_PREFIX + intake.name, to=to)


def _resize(writer: _NodeWriter, x: str, channels: int, height: int, width: int) -> str:
    sizes = writer.indices(1, channels, height, width)
    return writer.node(
        "Resize", [x, "", "", sizes], mode="linear", coordinate_transformation_mode="half_pixel"
    )


def _add_gate_outputs(
    writer: _NodeWriter, x: str, request: ImportRequest, outcome: OutputSpec
) -> list[Any]:
    """One vector to `defect_prob` (1,)."""
    from onnx import TensorProto, helper

    x = writer.node("Reshape", [x, writer.indices(1, outcome.channels)])
    if not outcome.activation_applied:
        softmax = outcome.activation == "softmax"
        x = writer.node("Softmax", [x], axis=1) if softmax else writer.node("Sigmoid", [x])
    index = request.good_index if request.good_index is not None else request.defect_index
    if index is None:
        x = writer.node("ReduceMax", [x, writer.indices(1)], keepdims=0)
    else:
        x = writer.node("Gather", [x, writer.indices(index)], axis=1)
    if request.good_index is not None:
        x = writer.node("Sub", [writer.constant(1.0), x])
    writer.node("Reshape", [x, writer.indices(1)], "defect_prob")
    return [helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1])]


def _add_segmenter_outputs(
    writer: _NodeWriter, x: str, request: ImportRequest, outcome: OutputSpec
) -> list[Any]:
    """A map to `class_map`, `class_area_px` and `class_score`."""
    from onnx import TensorProto, helper

    kinds = len(request.classes)
    height, width = request.height_px // outcome.stride, request.width_px // outcome.stride
    if outcome.rank == 3:
        x = writer.node("Unsqueeze", [x, writer.indices(1)])
    elif outcome.layout == "nhwc":
        x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    if (outcome.height, outcome.width) != (height, width):
        x = _resize(writer, x, outcome.channels, height, width)
    if not outcome.activation_applied:
        softmax = outcome.activation == "softmax"
        x = writer.node("Softmax", [x], axis=1) if softmax else writer.node("Sigmoid", [x])
    probs = x
    if outcome.channels == kinds + 1:
        probs = writer.node(
            "Slice", [x, writer.indices(1), writer.indices(kinds + 1), writer.indices(1)]
        )
    if outcome.activation == "sigmoid":
        limits = np.broadcast_to(np.array(request.thresholds, np.float32), kinds)
        over = writer.node("Sub", [probs, writer.constant(limits.reshape(1, -1, 1, 1))])
        sound = writer.constant(np.zeros((1, 1, height, width)))
        x = writer.node("Concat", [sound, over], axis=1)  # the first of equals wins
    winner = writer.node("ArgMax", [x], axis=1, keepdims=1)
    winner = writer.node("Cast", [winner], to=TensorProto.FLOAT)
    ids = writer.constant(np.arange(1, kinds + 1).reshape(1, -1, 1, 1))
    mine = writer.node("Cast", [writer.node("Equal", [winner, ids])], to=TensorProto.FLOAT)
    plane = writer.indices(2, 3)
    cells = writer.node("ReduceSum", [mine, plane], keepdims=0)
    area = float(outcome.stride**2)
    flat = writer.node("Squeeze", [winner, writer.indices(1)])
    writer.node("Cast", [flat], "class_map", to=TensorProto.UINT8)
    writer.node("Mul", [cells, writer.constant(area)], "class_area_px")
    total = writer.node("ReduceSum", [writer.node("Mul", [probs, mine]), plane], keepdims=0)
    writer.node("Div", [total, writer.node("Max", [cells, writer.constant(1.0)])], "class_score")
    return [
        helper.make_tensor_value_info("class_map", TensorProto.UINT8, [1, height, width]),
        helper.make_tensor_value_info("class_area_px", TensorProto.FLOAT, [1, kinds]),
        helper.make_tensor_value_info("class_score", TensorProto.FLOAT, [1, kinds]),
    ]
