"""A small Q/DQ graph placed by TensorRT's rules: a residual block under the model contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = (32, 48)
CHANNELS = 16
OPSET = 19


@dataclass
class _GraphBuilder:
    """Collects nodes and constants; each method returns the name of its result."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def quantized(self, tensor: str, scale: float, tag: str) -> str:
        step = self.constant(f"{tag}_scale", np.float32(scale))
        zero = self.constant(f"{tag}_zero", np.int8(0))
        self.node("QuantizeLinear", [tensor, step, zero], f"{tag}_q")
        return self.node("DequantizeLinear", [f"{tag}_q", step, zero], f"{tag}_dq")

    def convolution(self, tensor: str, inputs: int, tag: str, factor: float = 1.0) -> str:
        weights = self.rng.normal(0, 0.1, (CHANNELS, inputs, 3, 3)).astype(np.float32) * factor
        scale = (np.abs(weights).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        whole = np.rint(weights / scale[:, None, None, None]).astype(np.int8)
        wanted = [
            self.constant(f"{tag}_w", whole),
            self.constant(f"{tag}_w_scale", scale),
            self.constant(f"{tag}_w_zero", np.zeros(CHANNELS, np.int8)),
        ]
        self.node("DequantizeLinear", wanted, f"{tag}_w_dq", axis=0)
        bias = self.constant(f"{tag}_bias", np.zeros(CHANNELS, np.float32))
        return self.node("Conv", [tensor, f"{tag}_w_dq", bias], tag, pads=[1, 1, 1, 1])


def residual(factor: float = 1.0) -> onnx.ModelProto:
    """A gate of three quantized convolutions, one residual sum, and a mean at the end.

    Args:
        factor: Scales the second convolution's weights, and with them its weight scales.
    """
    graph = _GraphBuilder()
    real = graph.node("Cast", ["image"], "real", to=TensorProto.FLOAT)
    planes = graph.node("Transpose", [real], "planes", perm=[0, 3, 1, 2])
    full = graph.constant("full", np.float32(255.0))
    frame = graph.node("Div", [planes, full], "frame")
    first = graph.convolution(graph.quantized(frame, 1 / 127, "in"), 1, "first")
    trunk = graph.node("Relu", [first], "trunk")
    second = graph.convolution(graph.quantized(trunk, 0.01, "a"), CHANNELS, "second", factor)
    inner = graph.node("Relu", [second], "inner")
    third = graph.convolution(graph.quantized(inner, 0.01, "b"), CHANNELS, "third")
    total = graph.node("Add", [third, graph.quantized(trunk, 0.01, "skip")], "total")
    last = graph.node("Relu", [total], "last")
    axes = graph.constant("axes", np.array([1, 2, 3], np.int64))
    mean = graph.node("ReduceMean", [last, axes], "mean", keepdims=0)
    graph.node("Sigmoid", [mean], "defect_prob")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SIZE, 1])
    prob = helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1])
    whole = helper.make_graph(graph.nodes, "residual", [image], [prob], graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    helper.set_model_props(model, {"edgeinspect.kind": "gate", "edgeinspect.contract": "1"})
    return model
