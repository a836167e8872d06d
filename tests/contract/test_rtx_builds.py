"""Every graph of the project is parsed, type-checked and built by a real TensorRT builder.

TensorRT-RTX is TensorRT for desktop GPUs. Its parser, strong typing and builder are those of
TensorRT, and need no GPU. It cannot show the speed of a plan, or the accuracy of INT8 on a device.

`check` accepts any ONNX file. Add new kinds of graphs to `GRAPHS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgeinspect.learning.calibrate import qdq_placement
from edgeinspect.learning.calibrate.parent_graph import prepare_graph
from edgeinspect.learning.onnx_graphs import fp16
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, nvidia, quantized

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "engines"
VERSION = ("tensorrt-rtx-cu13-libs>=1.5,<2", "tensorrt-rtx-cu13-bindings>=1.5,<2")

BUILD = """
import json, sys
import tensorrt_rtx_bindings as trt

report = []
class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, message):
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            report.append(message)

def tensor(t):
    return [t.name, t.dtype.name]

def describe(network):
    layers = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        io_tensors = [layer.get_input(k) for k in range(layer.num_inputs)]
        layers.append({
            "name": layer.name, "kind": layer.type.name,
            "inputs": [tensor(t) for t in io_tensors if t is not None],
            "outputs": [tensor(layer.get_output(k)) for k in range(layer.num_outputs)],
        })
    return layers

logger = Logger()
builder = trt.Builder(logger)
results = []
for path in sys.argv[1:]:
    report.clear()
    network = builder.create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    size = 0
    layers, io_tensors = [], []
    if parser.parse_from_file(path):
        layers = describe(network)
        io_tensors = [tensor(network.get_input(k)) for k in range(network.num_inputs)]
        io_tensors += [tensor(network.get_output(k)) for k in range(network.num_outputs)]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        plan = builder.build_serialized_network(network, config)
        size = 0 if plan is None else plan.nbytes
    problems = [parser.get_error(k).desc() for k in range(parser.num_errors)] + report
    result = {"plan_bytes": size, "problems": problems, "layers": layers}
    results.append(result | {"io_tensors": io_tensors})
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Built:
    """The result of building one graph."""

    plan_bytes: int
    problems: list[str]
    layers: list[dict[str, Any]]
    io_tensors: list[list[str]]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [layer for layer in self.layers if layer["kind"] in kinds]

    def producer(self, name: str) -> dict[str, Any] | None:
        """Return the layer that produces a tensor."""
        producers = (
            entry for entry in self.layers if name in [tensor[0] for tensor in entry["outputs"]]
        )
        return next(producers, None)

    def reads_int8(self, layer: dict[str, Any]) -> bool:
        """Return True if the layer's input and weights are dequantized from int8."""
        producers = [self.producer(name) for name, _dtype in layer["inputs"][:2]]
        return len(producers) == 2 and all(
            producer is not None
            and producer["kind"] == "DEQUANTIZE"
            and producer["inputs"][0][1] == "INT8"
            for producer in producers
        )


Builder = Callable[[Path], Built]


@pytest.fixture(scope="module")
def rtx() -> Builder:
    """Return a function that builds one ONNX file in a separate process."""
    packages = nvidia.unpack_wheels(*VERSION)
    libraries = packages / "tensorrt_rtx_libs"

    def build(path: Path) -> Built:
        (report,) = nvidia.run_json(BUILD, str(path), paths=(packages,), libraries=libraries)
        return Built(**report)

    return build


def shipped(name: str) -> onnx.ModelProto:
    return onnx.load(ENGINES / name / "1" / "model.onnx")


def to_fp16(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    return lambda: fp16.convert_to_fp16(make()).model


FP32 = {
    "gate-fp32": lambda: shipped("strip-gate"),
    "segmenter-fp32": lambda: shipped("strip-segmenter"),
    "tiny-gate": graphs.gate,
    "tiny-segmenter": graphs.segmenter,
}


def calibrated(name: str) -> onnx.ModelProto:
    """Return a shipped model with Q/DQ nodes; the ranges are arbitrary."""
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
    "gate-fp16": to_fp16(FP32["gate-fp32"]),
    "segmenter-fp16": to_fp16(FP32["segmenter-fp32"]),
    **QDQ,
    **{f"{name}-fp16": to_fp16(make) for name, make in QDQ.items()},
}
"""All graphs that are built. Q/DQ graphs belong in `QDQ`."""


def left_in_float(name: str) -> set[str]:
    """Return the outputs of the convolutions that the placement leaves in float."""
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
    """Build one graph and check the rules for every graph.

    Args:
        rtx: The builder.
        path: Any ONNX file under the model contract.
        int8: True if its convolutions must compute in int8.
        half: True if its body must be half precision.
        floats: Outputs of convolutions that need not compute in int8.
    """
    built = rtx(path)
    assert built.plan_bytes > 0, built.problems
    io_tensors = dict(built.io_tensors)
    assert io_tensors["image"] == "UINT8"
    assert io_tensors.get("class_map", "UINT8") == "UINT8"
    for name in ("defect_prob", "class_area_px", "class_score"):
        assert io_tensors.get(name, "FLOAT") == "FLOAT"
    for layer in built.of("REDUCE", "SOFTMAX", "TOPK"):
        exact = layer["kind"] == "TOPK" or "MAX" in layer["name"].upper()
        assert exact or layer["inputs"][0][1] == "FLOAT", f"{layer['name']} is not in float32"
    convolutions = built.of("CONVOLUTION", "DECONVOLUTION")
    types = {layer["outputs"][0][1] for layer in convolutions}
    if half:
        assert types == {"HALF"}
    if int8:
        expected = [layer for layer in convolutions if layer["outputs"][0][0] not in floats]
        assert len(expected) >= 3
        assert [layer["name"] for layer in expected if not built.reads_int8(layer)] == []
    return built


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_is_built(rtx: Builder, name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GRAPHS[name]().SerializeToString())
    check(rtx, path, int8="int8" in name, half="fp16" in name, floats=left_in_float(name))


def test_a_graph_of_mixed_types_is_refused(rtx: Builder, tmp_path: Path) -> None:
    """Strong typing refuses a single initializer of another type."""
    model = fp16.convert_to_fp16(FP32["gate-fp32"]()).model
    weight = next(entry for entry in model.graph.initializer if entry.data_type == 10)
    values = onnx.numpy_helper.to_array(weight).astype("float32")
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    built = rtx(path)
    assert built.plan_bytes == 0
    assert built.problems


def test_a_float_convolution_does_not_count_as_int8(rtx: Builder, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(FP32["gate-fp32"]().SerializeToString())
    with pytest.raises(AssertionError):
        check(rtx, path, int8=True, half=False)
