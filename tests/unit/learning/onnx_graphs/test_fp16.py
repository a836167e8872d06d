"""The FP16 pass: which nodes become float16, which must not, and unchanged results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeinspect.errors import ModelError
from edgeinspect.imaging import render_strip
from edgeinspect.learning.onnx_graphs.fp16 import convert_to_fp16
from edgeinspect.learning.onnx_graphs.fp16_rounding import simulate_fp16
from tests import graphs, needs, quantized

ENGINES = Path(__file__).resolve().parents[4] / "engines"
UNSEEN_SEED = 815
IMAGE_COUNT = 6

GATE_TOLERANCE = 2e-3
"""For a probability. Float16 keeps 11 bits; measured 1.1e-4 on 40 images."""
SCORE_TOLERANCE = 5e-3
"""Measured 7.7e-4 on 40 images."""
CELLS_TOLERANCE = 1e-3
"""Ratio of cells whose class may change: ties may flip."""


def run(model: onnx.ModelProto, image: np.ndarray) -> list[Any]:
    return outputs_of(model, [image])[0]


def outputs_of(model: onnx.ModelProto, images: Sequence[np.ndarray]) -> list[list[Any]]:
    onnxruntime = needs.library("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [list(session.run(None, {"image": image[None]})) for image in images]


def shipped(name: str) -> onnx.ModelProto:
    return onnx.load(ENGINES / name / "1" / "model.onnx")


def images() -> list[np.ndarray]:
    rendered = (render_strip(UNSEEN_SEED, index).image for index in range(IMAGE_COUNT))
    return [np.ascontiguousarray(image[:, :, None]) for image in rendered]


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    every = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in every}


def test_the_gate_keeps_its_result() -> None:
    model = shipped("strip-gate")
    converted = convert_to_fp16(model)
    assert not converted.float32_layers
    both = zip(
        outputs_of(model, images()),
        outputs_of(simulate_fp16(converted.model), images()),
        strict=True,
    )
    worst = max(np.abs(expected[0] - actual[0]).max() for expected, actual in both)
    assert worst <= GATE_TOLERANCE


def test_the_segmenter_keeps_its_result() -> None:
    model = shipped("strip-segmenter")
    converted = convert_to_fp16(model)
    both = zip(
        outputs_of(model, images()),
        outputs_of(simulate_fp16(converted.model), images()),
        strict=True,
    )
    for expected, actual in both:
        changed = expected[0] != actual[0]
        assert changed.mean() <= CELLS_TOLERANCE
        assert np.abs(expected[1] - actual[1]).sum() <= 2 * changed.sum() * 16  # stride squared
        if not changed.any():
            np.testing.assert_allclose(actual[2], expected[2], atol=SCORE_TOLERANCE)


@pytest.mark.parametrize("name", ["strip-gate", "strip-segmenter"])
def test_the_body_is_float16_and_both_ends_are_float32(name: str) -> None:
    before = shipped(name)
    copy = before.SerializeToString(deterministic=True)
    result = convert_to_fp16(before)
    assert before.SerializeToString(deterministic=True) == copy
    kinds = types(result.model)
    for node in result.model.graph.node:
        output = kinds[node.output[0]]
        if node.op_type == "Conv":
            assert output == TensorProto.FLOAT16
        if node.op_type in ("ReduceMean", "ReduceSum", "Softmax", "Sqrt", "Div", "Sigmoid"):
            assert output == TensorProto.FLOAT, node.op_type
    assert list(result.model.graph.input) == list(before.graph.input)
    assert list(result.model.graph.output) == list(before.graph.output)
    metadata = {entry.key: entry.value for entry in result.model.metadata_props}
    assert metadata.pop("edgeinspect.float") == "fp16"
    assert metadata == {entry.key: entry.value for entry in before.metadata_props}
    assert result.model.ByteSize() < 0.55 * before.ByteSize()
    assert result.cast_count <= 3


def test_the_conversion_is_deterministic() -> None:
    first, second = (convert_to_fp16(shipped("strip-segmenter")).model for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_qdq_scales_become_float16_and_the_result_stays() -> None:
    model = quantized.residual()
    result = convert_to_fp16(model)
    assert not result.float32_layers
    kinds = {entry.name: entry.data_type for entry in result.model.graph.initializer}
    for name in ("first_w_scale", "second_w_scale", "a_scale", "skip_scale"):
        assert kinds[f"{name}/fp16"] == TensorProto.FLOAT16
        assert name not in kinds
    # The frame is float32 where it is quantized: its Q stays, and no cast is needed there.
    assert kinds["in_scale"] == TensorProto.FLOAT
    assert kinds["in_scale/fp16"] == TensorProto.FLOAT16
    assert result.cast_count == 1
    rng = np.random.default_rng(1)
    for _ in range(5):
        image = rng.integers(0, 256, (*quantized.SIZE, 1), np.uint8)
        np.testing.assert_allclose(run(result.model, image)[0], run(model, image)[0], atol=2e-3)


def test_a_scale_beyond_float16_keeps_its_layer_in_float32() -> None:
    model = quantized.residual(factor=1e-5)
    result = convert_to_fp16(model)
    assert result.float32_layers == ("second",)
    kinds = types(result.model)
    assert kinds["second"] == TensorProto.FLOAT
    assert kinds["first"] == kinds["third"] == TensorProto.FLOAT16
    image = np.full((*quantized.SIZE, 1), 77, np.uint8)
    np.testing.assert_allclose(run(result.model, image)[0], run(model, image)[0], atol=2e-3)


def plane_info(name: str, size: int = 8) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, size, size])


def chain(
    nodes: Sequence[onnx.NodeProto], result: onnx.ValueInfoProto | None = None, **constants: Any
) -> onnx.ModelProto:
    """A graph of one channel, 8 by 8, whose frame is `x` and whose result is `y`."""
    front = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["x"], perm=[0, 3, 1, 2]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 1])
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(
        [*front, *nodes], "chain", [image], [result or plane_info("y")], tensors
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def conv(tensor: str, weights: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [tensor, weights], [result], pads=[1, 1, 1, 1])


WEIGHTS = np.full((1, 1, 3, 3), 0.1, np.float32)


def test_weights_beyond_float16_keep_their_layer_in_float32() -> None:
    model = chain(
        [conv("x", "w", "a"), conv("a", "big", "b"), conv("b", "w", "y")],
        w=WEIGHTS,
        big=np.full((1, 1, 3, 3), 1e5, np.float32),
    )
    result = convert_to_fp16(model)
    assert result.float32_layers == ("b",)
    assert types(result.model)["b"] == TensorProto.FLOAT
    names = {entry.name for entry in result.model.graph.initializer}
    assert names == {"w/fp16", "big"}


def test_a_square_before_a_mean_stays_in_float32() -> None:
    # 300 squared exceeds float16, whatever its mean.
    model = chain(
        [
            conv("x", "w", "a"),
            helper.make_node("Mul", ["a", "a"], ["square"]),
            helper.make_node("ReduceMean", ["square", "axes"], ["mean"]),
            helper.make_node("Sub", ["a", "mean"], ["less"]),
            conv("less", "w", "y"),
        ],
        w=np.full((1, 1, 3, 3), 0.5, np.float32),
        axes=np.array([2, 3], np.int64),
    )
    kinds = types(convert_to_fp16(model).model)
    assert kinds["square"] == kinds["mean"] == TensorProto.FLOAT
    assert kinds["less"] == TensorProto.FLOAT16


def test_constant_nodes_and_shared_constants_are_handled() -> None:
    weights = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS))
    model = chain(
        [
            weights,
            helper.make_node("Mul", ["x", "f"], ["scaled"]),
            conv("scaled", "w", "a"),
            helper.make_node("Mul", ["a", "f"], ["b"]),
            conv("b", "w", "c"),
            helper.make_node("Add", ["c", "f"], ["y"]),
        ],
        f=np.float32(0.5),
    )
    result = convert_to_fp16(model)
    names = {entry.name for entry in result.model.graph.initializer}
    assert names == {"w/fp16", "f", "f/fp16"}
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    np.testing.assert_allclose(run(result.model, image)[0], run(model, image)[0], rtol=5e-3)


def test_the_simulation_shows_float16_errors() -> None:
    # Three times 60000 exceeds float16; ONNX Runtime's float32 does not show it.
    model = chain(
        [conv("x", "big", "a"), conv("a", "small", "y")],
        big=np.full((1, 1, 3, 3), 6e4, np.float32),
        small=np.full((1, 1, 3, 3), 1e-3, np.float32),
    )
    converted = convert_to_fp16(model).model
    image = np.full((8, 8, 1), 3, np.uint8)
    assert np.isfinite(run(converted, image)[0]).all()
    assert np.isinf(run(simulate_fp16(converted), image)[0]).all()


def test_a_resize_keeps_its_factors_in_float32() -> None:
    model = chain(
        [
            conv("x", "w", "a"),
            helper.make_node("Resize", ["a", "", "factors"], ["up"], mode="nearest"),
            conv("up", "w", "y"),
        ],
        plane_info("y", 16),
        w=WEIGHTS,
        factors=np.array([1, 1, 2, 2], np.float32),
    )
    result = convert_to_fp16(model)
    assert types(result.model)["up"] == TensorProto.FLOAT16
    assert "factors" in {entry.name for entry in result.model.graph.initializer}


def test_a_float16_result_with_other_consumers_is_output_as_float32() -> None:
    model = chain([conv("x", "w", "y"), conv("y", "w", "z")], w=WEIGHTS)
    model.graph.output.append(plane_info("z"))
    result = convert_to_fp16(model)
    image = np.full((8, 8, 1), 9, np.uint8)
    expected, actual = run(model, image), run(result.model, image)
    for one, other in zip(expected, actual, strict=True):
        assert other.dtype == np.float32
        np.testing.assert_allclose(other, one, rtol=5e-3)


def test_a_graph_without_a_convolution_is_rejected() -> None:
    with pytest.raises(ModelError, match="no convolution") as caught:
        convert_to_fp16(graphs.gate())
    assert caught.value.exit_code == 65


def test_qdq_below_opset_19_is_rejected() -> None:
    model = quantized.residual()
    model.opset_import[0].version = 17
    with pytest.raises(ModelError, match="opset 17"):
        convert_to_fp16(model)


def test_an_inconsistent_graph_is_rejected() -> None:
    model = chain([conv("x", "w", "y")], w=WEIGHTS.astype(np.float64))
    with pytest.raises(ModelError, match="not a valid graph"):
        convert_to_fp16(model)
