"""Q/DQ placement by each rule on small graphs, and on the shipped models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.library("onnx")
needs.library("onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeinspect.errors import ModelError
from edgeinspect.learning.calibrate.qdq_placement import (
    FLOAT_UNTIL_KEY,
    insert_qdq,
    int8_scale,
    plan_qdq,
    quantize_weight,
)
from edgeinspect.learning.calibrate.sessions import TensorProbe
from edgeinspect.learning.calibrate.space_to_depth import space_to_depth_stem
from edgeinspect.learning.onnx_graphs.graph import GraphIndex, fold_batch_norms, load_model

ROOT = Path(__file__).parents[4]
SHIPPED = ("strip-gate/1", "strip-segmenter/1")
SIZE = 16


class Net:
    """Builds a graph that starts with image uint8 (1, 16, 16, C) to real (1, C, 16, 16)."""

    def __init__(self, channels: int = 16, opset: int = 20) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(1)
        self.opset = opset
        self.channels = {"x": channels}
        self.inputs = channels
        self.add("Cast", ["image"], "real", to=TensorProto.FLOAT)
        self.add("Transpose", ["real"], "planes", perm=[0, 3, 1, 2])
        self.constants["by"] = np.array(1 / 255, np.float32)
        self.add("Mul", ["planes", "by"], "x")

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.channels.setdefault(output, self.channels.get(inputs[0], 0))
        return output

    def conv(self, source: str, output: str, outputs: int = 16, kernel: int = 3, **kw: Any) -> str:
        size = (outputs, self.channels[source], kernel, kernel)
        self.constants[f"{output}_w"] = self.rng.normal(0, 0.2, size).astype(np.float32)
        self.constants[f"{output}_b"] = self.rng.normal(0, 0.2, outputs).astype(np.float32)
        self.channels[output] = outputs
        names = [source, f"{output}_w", f"{output}_b"]
        return self.add("Conv", names, output, pads=[kernel // 2] * 4, **kw)

    def model(self, output: str) -> Any:
        value = helper.make_tensor_value_info
        image = value("image", TensorProto.UINT8, [1, SIZE, SIZE, self.inputs])
        tensors = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(
            self.nodes, "net", [image], [value(output, TensorProto.FLOAT, None)], tensors
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9
        )
        made = onnx.shape_inference.infer_shapes(made)
        onnx.checker.check_model(made, full_check=True)
        return made


def placed(model: Any, **ranges: float) -> GraphIndex:
    placement = plan_qdq(model)
    return GraphIndex(
        insert_qdq(model, placement, {name: ranges.get(name, 2.0) for name in placement.tensors})
    )


def quantized_tensors(graph: GraphIndex) -> list[str]:
    return [node.input[0] for node in graph.nodes if node.op_type == "QuantizeLinear"]


def reads_int8(graph: GraphIndex, output: str, place: int = 0) -> bool:
    maker = graph.producer(graph.producer(output).input[place])
    return maker is not None and maker.op_type == "DequantizeLinear"


def test_a_convolution_has_q_and_dq_on_its_inputs_and_none_on_its_output() -> None:
    net = Net()
    graph = placed(net.model(net.add("Relu", [net.conv("x", "a")], "y")))
    assert quantized_tensors(graph) == ["x"]
    assert reads_int8(graph, "a", 0)
    assert reads_int8(graph, "a", 1)
    bias = graph.producer("a").input[2]
    assert graph.constant(bias).dtype == np.float32
    assert [node.op_type for node in graph.consumers("a")] == ["Relu"]


def test_everything_is_symmetric_int8_with_float32_scales() -> None:
    net = Net()
    graph = placed(net.model(net.conv("x", "a")), x=3.0)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = (graph.constant(name) for name in node.input[1:3])
            assert scale.dtype == np.float32
            assert (scale > 0).all()
            assert zero.dtype == np.int8
            assert not zero.any()
    scale = graph.constant(next(n for n in graph.nodes if n.op_type == "QuantizeLinear").input[1])
    assert scale == np.float32(3.0 / 127)
    weight = graph.producer(graph.producer("a").input[1])
    assert graph.constant(weight.input[0]).dtype == np.int8
    assert graph.constant(weight.input[1]).shape == (16,)
    assert {a.name: a.i for a in weight.attribute}["axis"] == 0


def test_a_shared_tensor_has_one_scale() -> None:
    net = Net()
    net.conv("x", "a")
    net.conv("x", "b")
    graph = placed(net.model(net.add("Concat", ["a", "b"], "y", axis=1)))
    assert quantized_tensors(graph) == ["x"]
    assert graph.producer("a").input[0] == graph.producer("b").input[0]


def test_a_residual_add_is_quantized_on_its_skip_branch_only() -> None:
    net = Net()
    skip = net.add("Relu", [net.conv("x", "a")], "skip")
    net.conv(skip, "main")
    net.add("Add", ["main", skip], "sum")
    graph = placed(net.model(net.conv(net.add("Relu", ["sum"], "r"), "y")))
    add = graph.producer("sum")
    assert add.input[0] == "main"
    assert graph.producer(add.input[1]).op_type == "DequantizeLinear"
    assert add.input[1] == graph.producer("main").input[0]


def test_of_two_convolutions_into_an_add_the_larger_one_fuses() -> None:
    net = Net()
    net.conv("x", "small", kernel=1)
    net.conv("x", "large")
    net.add("Add", ["small", "large"], "sum")
    model = net.model(net.conv(net.add("Relu", ["sum"], "r"), "y"))
    assert plan_qdq(model).residual_branches == {"sum": "small"}
    assert plan_qdq(model, ["small"]).residual_branches == {"sum": "small"}
    assert plan_qdq(model, ["large"]).residual_branches == {}


def test_an_add_that_feeds_no_int8_layer_is_left_alone() -> None:
    net = Net()
    net.conv("x", "main")
    model = net.model(net.add("Sigmoid", [net.add("Add", ["main", "x"], "sum")], "y"))
    assert plan_qdq(model).residual_branches == {}


def test_the_result_of_a_resize_is_quantized_and_not_its_input() -> None:
    net = Net()
    net.constants["twice"] = np.array([1, 1, 2, 2], np.float32)
    net.add("Resize", [net.conv("x", "a"), "", "twice"], "up", mode="nearest")
    graph = placed(net.model(net.conv("up", "y")))
    assert graph.producer("up").input[0] == "a"
    assert quantized_tensors(graph) == ["x", "up"]


def test_a_concat_has_its_result_quantized_and_none_of_its_inputs() -> None:
    net = Net()
    net.conv("x", "a")
    net.channels["cat"] = 32
    graph = placed(net.model(net.conv(net.add("Concat", ["a", "x"], "cat", axis=1), "y")))
    assert list(graph.producer("cat").input) == ["a", "x"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "quantized"),
    [(16, 16, True), (16, 15, False), (15, 16, False), (64, 1, False)],
)
def test_few_channels_stay_in_float(inputs: int, outputs: int, quantized: bool) -> None:
    net = Net()
    net.conv("x", "a", inputs)
    model = net.model(net.conv("a", "b", outputs))
    assert [layer.quantized for layer in plan_qdq(model).layers][1] is quantized


@pytest.mark.parametrize(("outputs", "quantized"), [(8, True), (24, True), (12, False)])
def test_the_first_layer_may_have_few_channels_in_multiples_of_8(
    outputs: int, quantized: bool
) -> None:
    net = Net(channels=1)
    assert [
        layer.quantized for layer in plan_qdq(net.model(net.conv("x", "a", outputs))).layers
    ] == [quantized]


def test_a_layer_can_be_kept_in_float_and_an_unknown_name_is_refused() -> None:
    net = Net()
    net.conv("x", "a")
    model = net.model(net.conv("a", "b"))
    placement = plan_qdq(model, ["a"])
    assert placement.tensors == ("a",)
    assert placement.layers[0].why == "kept in float as requested"
    with pytest.raises(ModelError, match="no layer c"):
        plan_qdq(model, ["c"])


def test_metadata_keep_everything_before_a_tensor_in_float() -> None:
    net = Net()
    net.conv("x", "a")
    net.add("Relu", [net.conv("a", "b")], "features")
    model = net.model(net.conv("features", "c"))
    onnx.helper.set_model_props(model, {FLOAT_UNTIL_KEY: "features"})
    placement = plan_qdq(model)
    assert [layer.quantized for layer in placement.layers] == [False, False, True]
    assert placement.layers[1].why == "in float by the model's metadata"
    assert placement.tensors == ("features",)
    onnx.helper.set_model_props(model, {FLOAT_UNTIL_KEY: "gone"})
    with pytest.raises(ModelError, match="no tensor 'gone'"):
        plan_qdq(model)


def test_gemm_is_quantized_per_output_transposed_or_not() -> None:
    for transposed in (0, 1):
        net = Net()
        net.constants["w"] = net.rng.normal(0, 1, (32, 16)).astype(np.float32)
        if not transposed:
            net.constants["w"] = net.constants["w"].T.copy()
        net.add("GlobalAveragePool", [net.conv("x", "a")], "mean")
        net.add("Flatten", ["mean"], "flat")
        graph = placed(net.model(net.add("Gemm", ["flat", "w"], "y", transB=transposed)))
        weight = graph.producer(graph.producer("y").input[1])
        assert graph.constant(weight.input[1]).shape == (32,)


def test_an_old_opset_or_a_quantized_graph_or_a_missing_range_is_refused() -> None:
    net = Net(opset=18)
    with pytest.raises(ModelError, match="opset 18"):
        plan_qdq(net.model(net.conv("x", "a")))
    net = Net()
    model = net.model(net.conv("x", "a"))
    with pytest.raises(ModelError, match="no valid clip value"):
        insert_qdq(model, plan_qdq(model), {})
    with pytest.raises(ModelError, match="no valid clip value"):
        insert_qdq(model, plan_qdq(model), {"x": float("nan")})
    with pytest.raises(ModelError, match="already quantised"):
        plan_qdq(insert_qdq(model, plan_qdq(model), {"x": 1.0}))


def test_batch_norms_are_folded_before_anything_is_quantized() -> None:
    net = Net()
    net.conv("x", "a")
    for name, value in (("g", 2.0), ("b", 0.3), ("m", 0.1), ("v", 0.5)):
        net.constants[name] = np.full(16, value, np.float32) * net.rng.uniform(0.5, 1.5, 16).astype(
            np.float32
        )
    model = net.model(net.add("BatchNormalization", ["a", "g", "b", "m", "v"], "y"))
    image = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 16), np.uint8)
    before = TensorProbe(model, ["y"]).run(image)[0]
    assert fold_batch_norms(model) == 1
    assert [node.op_type for node in model.graph.node][-1] == "Conv"
    np.testing.assert_allclose(TensorProbe(model, ["y"]).run(image)[0], before, atol=1e-4)


def test_zero_channels_and_zero_tensors_get_a_positive_scale() -> None:
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[1] = 0.5
    values, scales = quantize_weight(weight, 0)
    assert (scales > 0).all()
    assert values[0].max() == 0
    assert values[1].max() == 127
    assert int8_scale(0.0) > 0
    assert int8_scale(1e-45) > 0


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 2, 2, 1], [3, 3, 3, 3]])
def test_the_rewritten_stem_computes_the_same(kernel: int, pads: list[int]) -> None:
    net = Net(channels=3)
    net.conv("x", "a", 8, kernel, strides=[2, 2])
    net.nodes[-1] = helper.make_node(
        "Conv", ["x", "a_w", "a_b"], ["a"], name="a", pads=pads, strides=[2, 2]
    )
    model = net.model("a")
    image = np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    before = TensorProbe(model, ["a"]).run(image)[0]
    assert space_to_depth_stem(model) == "x_blocks"
    onnx.checker.check_model(model, full_check=True)
    after = TensorProbe(model, ["a"]).run(image)[0]
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_stem_of_stride_1_or_many_channels_is_unchanged() -> None:
    for channels, strides in ((1, [1, 1]), (16, [2, 2])):
        net = Net(channels=channels)
        assert space_to_depth_stem(net.model(net.conv("x", "a", 8, strides=strides))) is None


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_models_are_placed_by_the_rules(name: str) -> None:
    model = load_model(ROOT / "engines" / name / "model.onnx")
    fold_batch_norms(model)
    space_to_depth_stem(model)
    before = GraphIndex(model)
    placement = plan_qdq(model)
    graph = GraphIndex(insert_qdq(model, placement, dict.fromkeys(placement.tensors, 5.0)))
    heavy = [node for node in before.nodes if node.op_type in ("Conv", "Gemm")]
    assert len(placement.layers) == len(heavy)
    assert {
        layer.why.split(" channels")[0] for layer in placement.layers if not layer.quantized
    } == {"fewer than 16"}
    assert len(placement.int8_layers) >= len(heavy) - 2
    for node in graph.nodes:
        if node.op_type in (
            "Resize",
            "Sigmoid",
            "Softmax",
            "ArgMax",
            "ReduceMean",
            "ReduceMax",
            "ReduceSum",
            "Concat",
            "Sub",
            "Div",
            "Mul",
            "Relu",
        ):
            makers = [graph.producer(each) for each in node.input]
            assert all(m is None or m.op_type != "DequantizeLinear" for m in makers), node.name
    # Pre- and post-processing are unchanged: the same nodes with the same inputs.
    first = before.position(heavy[0])
    for node in before.nodes[:first]:
        assert list(graph.producer(node.output[0]).input) == list(node.input)
    adds = [
        n for n in graph.nodes if n.op_type == "Add" and n.output[0] in placement.residual_branches
    ]
    assert adds
    for node in adds:
        fed = [graph.producer(each).op_type == "DequantizeLinear" for each in node.input]
        assert fed.count(True) == 1
