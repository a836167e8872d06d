"""FP16 versions, from the command line to the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain import FrameShape
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs, quantized

needs.library("onnxruntime")

SHAPE = FrameShape(*quantized.SIZE, 1)


def float_gate(factor: float = 1.0) -> onnx.ModelProto:
    """A gate of two convolutions; `factor` scales the values between them."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(2).normal(0, 0.2, (4, 1, 3, 3)).astype(np.float32)
    back = np.full((1, 4, 1, 1), 1 / factor, np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["a"]),
        helper.make_node("Conv", ["a", "back"], ["b"]),
        helper.make_node("ReduceMean", ["b", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["defect_prob"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *SHAPE.dims])
    prob = helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1])
    arrays = {"w": weights * factor, "back": back, "axes": np.array([1, 2, 3], np.int64)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "gate", [image], [prob], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {"edgeinspect.kind": "gate", "edgeinspect.contract": "1"})
    return model


def write_images(folder: Path) -> Path:
    import cv2

    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(6):
        picture = rng.integers(0, 256, quantized.SIZE, np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return folder


@pytest.mark.parametrize("model", [float_gate, quantized.residual], ids=["fp32", "qdq"])
def test_an_fp16_version_is_a_candidate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: object
) -> None:
    store = tmp_path / "store"
    precision = "fp32" if model is float_gate else "int8"
    assert callable(model)
    graphs.install(store, model(), shape=SHAPE, precision=precision, opset=19)
    images = str(write_images(tmp_path / "images"))
    code = main(
        ["models", "build", "tiny-gate/1", "--store", str(store), "--fp16", "--images", images]
    )
    assert code == 0, capsys.readouterr()
    spec = ModelStore(store).resolve("tiny-gate/2")
    assert spec.precision.value == ("fp16" if model is float_gate else "int8")
    assert ModelStore(store).resolve("tiny-gate").id.version == 1, "the live version is unchanged"
    kinds = {entry.data_type for entry in onnx.load(spec.path).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_an_fp16_version_that_overflows_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    graphs.install(store, float_gate(2e4), shape=SHAPE, opset=19)
    images = str(write_images(tmp_path / "images"))
    code = main(
        ["models", "build", "tiny-gate/1", "--store", str(store), "--fp16", "--images", images]
    )
    assert code == 65, capsys.readouterr()
    assert ModelStore(store).versions("tiny-gate") == (1,)


def test_fp16_requires_frames(tmp_path: Path) -> None:
    assert main(["models", "build", "tiny-gate", "--store", str(tmp_path), "--fp16"]) == 64
    store = str(tmp_path)
    assert main(["models", "build", "tiny-gate", "--store", store, "--images", store]) == 64
