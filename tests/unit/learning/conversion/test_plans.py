"""TensorRT plans, from the command line to the files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeinspect.backends._tensorrt import cuda
from edgeinspect.backends._tensorrt.builder import LayerInfo, parse_layers
from edgeinspect.cli.main import main
from edgeinspect.domain.frame import FrameShape
from edgeinspect.errors import DataError
from edgeinspect.learning.conversion import plans
from tests import graphs, needs, quantized
from tests.fake_gpu import FakeGpu, install

needs.library("onnxruntime")

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "strip.yaml"
SHAPE = FrameShape(*quantized.SIZE, 1)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    install(monkeypatch.setitem, sys.modules, fake)
    monkeypatch.setattr(cuda, "_contexts", {})
    return fake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = tmp_path / "store"
    graphs.install(store, graphs.gate())
    return store


def arguments(root: Path, *more: str) -> list[str]:
    return [
        "models",
        "build",
        "tiny-gate",
        "--store",
        str(root),
        "--plans",
        str(root.parent / "p"),
        *more,
    ]


def test_a_plan_is_built_from_the_command_line(
    gpu: FakeGpu, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(root)) == 0
    assert main(arguments(root)) == 0
    assert gpu.builds == 1
    assert main(arguments(root, "--force")) == 0
    assert gpu.builds == 2
    out = capsys.readouterr().out
    assert "strong typing, TensorRT 11.4.0.106" in out
    (plan,) = (root.parent / "p").glob("*.plan")
    assert main(["models", "build", str(plan), "--inspect"]) == 0
    assert "Conv" in capsys.readouterr().out
    assert main(["models", "build", str(plan)]) == 64
    plan.write_bytes(plan.read_bytes()[:-1])
    assert main(["models", "build", str(plan), "--inspect"]) == 65


def test_every_trt_engine_of_a_configuration_is_requested(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("type: ov", "type: trt")
    path = tmp_path / "line.yaml"
    path.write_text(text)
    tasks = plans.plan_requests(str(path), {"optimization_level": 1})
    assert [task.name for task in tasks] == ["engines.gate", "engines.segmenter"]
    assert {task.options.optimization_level for task in tasks} == {1}
    with pytest.raises(DataError, match="no engine of type trt"):
        plans.plan_requests(str(EXAMPLE), {})


INSPECTOR_JSON = {
    "Layers": [
        {
            "Name": "conv1 + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "q",
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
                }
            ],
            "Outputs": [{"Name": "r", "Format/Datatype": "Row major linear FP16 format"}],
        },
        {
            "Name": "conv2",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "r", "Format": "Row major", "Datatype": "Half"}],
            "Outputs": [{"Name": "s", "Format/Datatype": "Row major linear FP32"}],
        },
        {
            "Name": "cast",
            "LayerType": "Cast",
            "Inputs": [{"Format/Datatype": "Row major UInt8 format"}],
            "Outputs": ["x"],
        },
        "named only",
    ]
}


def test_the_inspector_output_is_parsed() -> None:
    layers = parse_layers(INSPECTOR_JSON)
    assert layers == (
        LayerInfo("conv1 + relu", "CaskConvolution", ("int8",), ("fp16",)),
        LayerInfo("conv2", "CaskConvolution", ("fp16",), ("fp32",)),
        LayerInfo("cast", "Cast", ("uint8",), ("?",)),
        LayerInfo("named only", "?", (), ()),
    )
    assert plans.precision_ratio(layers, "int8") == plans.precision_ratio(layers, "fp16") == 0.5
    assert plans.precision_ratio(layers[2:], "int8") == 0
