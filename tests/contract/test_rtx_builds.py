"""Every graph of the project, read, type-checked and built by a real TensorRT builder.

TensorRT-RTX is TensorRT's sister for desktop cards. Its parser, its strong typing and its
builder are TensorRT's own and need no GPU to build for one. What it cannot tell is how fast
a plan is, or how right INT8 is on a device.

`check` takes any ONNX file: whoever makes a new kind of graph adds it
to `GRAPHS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeinspect.learning.calibrate import qdq_placement
from edgeinspect.learning.calibrate.calibration import prepare_graph
from edgeinspect.learning.onnx_graphs import fp16
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, nvidia, quantized

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "engines"
VERSION = ("tensorrt-rtx-cu13-libs>=1.5,<2", "tensorrt-rtx-cu13-bindings>=1.5,<2")

BUILD = """
import json, sys
import tensorrt_rtx_bindings as trt

told = []
class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, message):
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            told.append(message)

def tensor(t):
    return [t.name, t.dtype.name]

def describe(network):
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        ends = [layer.get_input(k) for k in range(layer.num_inputs)]
        layers.append({
            "name": layer.name, "kind": layer.type.name,
            "inputs": [tensor(t) for t in ends if t is not None],
            "outputs": [tensor(layer.get_output(k)) for k in range(layer.num_outputs)],
        })
    return layers

logger = Logger()
builder = trt.Builder(logger)
results = []
for path in sys.argv[1:]:
    told.clear()
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    size = 0
    layers, ends = [], []
    if parser.parse_from_file(path):
        layers = describe(network)
        ends = [tensor(network.get_input(k)) for k in range(network.num_inputs)]
        ends += [tensor(network.get_output(k)) for k in range(network.num_outputs)]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        plan = builder.build_serialized_network(network, config)
        size = 0 if plan is None else plan.nbytes
    problems = [parser.get_error(k).desc() for k in range(parser.num_errors)] + told
    results.append({"plan_bytes": size, "problems": problems, "layers": layers, "ends": ends})
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Built:
    """One graph as the builder took it."""

    plan_bytes: int
    problems: list[str]
    layers: list[dict[str, Any]]
    ends: list[list[str]]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [layer for layer in self.layers if layer["kind"] in kinds]

    def maker(self, name: str) -> dict[str, Any] | None:
        """The layer that makes a tensor."""
        makers = (entry for entry in self.layers if name in [end[0] for end in entry["outputs"]])
        return next(makers, None)

    def reads_int8(self, layer: dict[str, Any]) -> bool:
        """Whether a layer's input and weights are int8 that it dequantizes itself."""
        makers = [self.maker(name) for name, _dtype in layer["inputs"][:2]]
        return len(makers) == 2 and all(
            maker is not None and maker["kind"] == "DEQUANTIZE" and maker["inputs"][0][1] == "INT8"
            for maker in makers
        )


Builder = Callable[[Path], Built]


@pytest.fixture(scope="module")
def rtx() -> Builder:
    """Builds one ONNX file, in a process of its own."""
    packages = nvidia.unpack_wheels(*VERSION)
    libraries = packages / "tensorrt_rtx_libs"

    def build(path: Path) -> Built:
        (told,) = nvidia.run_json(BUILD, str(path), paths=(packages,), libraries=libraries)
        return Built(**told)

    return build


def shipped(name: str) -> onnx.ModelProto:
    return onnx.load(ENGINES / name / "1" / "model.onnx")


def halved(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    return lambda: fp16.convert_to_fp16(make()).model


FP32 = {
    "gate-fp32": lambda: shipped("strip-gate"),
    "segmenter-fp32": lambda: shipped("strip-segmenter"),
    "tiny-gate": graphs.gate,
    "tiny-segmenter": graphs.segmenter,
}


def calibrated(name: str) -> onnx.ModelProto:
    """A shipped model with the project's own Q/DQ; the ranges are beside the point here."""
    model = prepared(name)
    placement = qdq_placement.plan_qdq(model)
    return qdq_placement.insert_qdq(model, placement, dict.fromkeys(placement.tensors, 6.0))


def prepared(name: str) -> onnx.ModelProto:
    model: onnx.ModelProto = prepare_graph(ModelStore(ENGINES).resolve(f"{name}/1"))
    return model


QDQ: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual-int8": quantized.residual,
    "gate-int8": lambda: calibrated("strip-gate"),
    "segmenter-int8": lambda: calibrated("strip-segmenter"),
}
SHIPPED = {"gate-int8": "strip-gate", "segmenter-int8": "strip-segmenter"}
GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    **FP32,
    "gate-fp16": halved(FP32["gate-fp32"]),
    "segmenter-fp16": halved(FP32["segmenter-fp32"]),
    **QDQ,
    **{f"{name}-fp16": halved(make) for name, make in QDQ.items()},
}
"""Everything that is parsed, checked and built. Q/DQ graphs go into `QDQ`."""


def left_in_float(name: str) -> set[str]:
    """Outputs of the convolutions that the placement's rules leave in float."""
    model = SHIPPED.get(name.removesuffix("-fp16"))
    if model is None:
        return set()
    return {
        layer.output
        for layer in qdq_placement.plan_qdq(prepared(model)).layers
        if not layer.quantized
    }


def check(
    rtx: Builder, path: Path, *, int8: bool, half: bool, floats: Collection[str] = ()
) -> Built:
    """Build one graph, and hold what every graph must keep.

    Args:
        rtx: The builder.
        path: Any ONNX file under the model contract.
        int8: Whether its convolutions are meant to compute in int8.
        half: Whether its body is meant to be half.
        floats: Outputs of convolutions that are meant not to compute in int8.
    """
    built = rtx(path)
    assert built.plan_bytes > 0, built.problems
    ends = dict(built.ends)
    assert ends["image"] == "UINT8"
    assert ends.get("class_map", "UINT8") == "UINT8"
    for name in ("defect_prob", "class_area_px", "class_score"):
        assert ends.get(name, "FLOAT") == "FLOAT"
    for layer in built.of("REDUCE", "SOFTMAX", "TOPK"):
        exact = layer["kind"] == "TOPK" or "MAX" in layer["name"].upper()
        assert exact or layer["inputs"][0][1] == "FLOAT", f"{layer['name']} is not in float32"
    convolutions = built.of("CONVOLUTION", "DECONVOLUTION")
    types = {layer["outputs"][0][1] for layer in convolutions}
    if half:
        assert types == {"HALF"}
    if int8:
        meant = [layer for layer in convolutions if layer["outputs"][0][0] not in floats]
        assert len(meant) >= 3
        assert [layer["name"] for layer in meant if not built.reads_int8(layer)] == []
    return built


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_is_built(rtx: Builder, name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GRAPHS[name]().SerializeToString())
    check(rtx, path, int8="int8" in name, half="fp16" in name, floats=left_in_float(name))


def test_a_graph_of_mixed_types_is_refused(rtx: Builder, tmp_path: Path) -> None:
    """What the check is for: one initializer too many in half, and strong typing says no."""
    model = fp16.convert_to_fp16(FP32["gate-fp32"]()).model
    weight = next(entry for entry in model.graph.initializer if entry.data_type == 10)
    values = onnx.numpy_helper.to_array(weight).astype("float32")
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    built = rtx(path)
    assert built.plan_bytes == 0
    assert built.problems


def test_a_float_convolution_is_not_taken_for_int8(rtx: Builder, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(FP32["gate-fp32"]().SerializeToString())
    with pytest.raises(AssertionError):
        check(rtx, path, int8=True, half=False)
