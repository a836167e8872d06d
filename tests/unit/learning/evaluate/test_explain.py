"""Heat maps: Grad-CAM from the graph against torch's gradients, occlusion on known images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain import FrameShape, ModelKind
from edgeinspect.errors import DataError, EngineFault, MissingExtraError
from edgeinspect.imaging import synthetic_strip
from edgeinspect.learning.evaluate.explain.explanation import (
    AUTO,
    GRADCAM,
    OCCLUSION,
    choose_heatmap_method,
    read_frames,
)
from edgeinspect.learning.evaluate.explain.grad_cam import grad_cam, split_graph
from edgeinspect.learning.evaluate.explain.occlusion import occlusion_map
from edgeinspect.learning.evaluate.open_model import build_inspector, load_engine
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.testing.doubles import model_spec
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import make_image

needs.library("onnxruntime")
ENGINES = Path(__file__).parents[4] / "engines"


def test_grad_cam_and_checkpoint_agree_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = needs.library("torch")
    from edgeinspect.learning.train import torch_engine
    from edgeinspect.learning.train.export import ModelCard, export_graph
    from edgeinspect.learning.train.networks import SmallGate
    from edgeinspect.learning.train.torch_grad_cam import TorchGradCam

    torch.manual_seed(2)
    net = SmallGate(ignore_black=True)
    net.train()
    with torch.no_grad():  # statistics of batch norm that are not 0 and 1
        net(torch.rand(8, 1, 64, 96) * 255)
    net.eval()
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 1)).astype(np.uint8)
    image[20:30, 40:60] //= 4
    card = ModelCard("g", 1, ("defect",), "run", {"suspect": 0.4}, {}, {}, "2026-01-01")
    folder = export_graph(net, card, tmp_path, image[None])
    graph = split_graph(folder / "model.onnx")
    assert graph is not None
    assert graph.shape == (64, 4, 6)
    heat, prob = grad_cam(graph, image)
    expected, expected_prob = TorchGradCam(net)(image)
    assert prob == pytest.approx(expected_prob, abs=1e-5)
    assert expected.max() > 0
    assert np.abs(heat - expected).max() < 0.03 * expected.max()

    frame = {"height_px": 64, "width_px": 96, "channels": 1}
    run = {"kind": "gate", "name": "g", "stride": 1, "classes": ["pit"], "frame": frame}
    monkeypatch.setattr(torch_engine, "load_run", lambda path: (net, run))
    (tmp_path / "checkpoint.pt").touch()
    engine = torch_engine.load_checkpoint_engine(tmp_path / "checkpoint.pt")
    assert engine.infer(image)[0] == pytest.approx([prob], abs=1e-5)
    assert engine.spec.thresholds == {"suspect": 0.4}
    with pytest.raises(EngineFault, match="takes"):
        engine.infer(image[:32])
    with pytest.raises(DataError, match="no such checkpoint"):
        torch_engine.load_checkpoint_engine(tmp_path / "gone.pt")


@pytest.mark.parametrize("decides", ["defects", "kinds"])
def test_grad_cam_of_kinds_agrees_with_torch(decides: str, tmp_path: Path) -> None:
    torch = needs.library("torch")
    from edgeinspect.domain import Decides
    from edgeinspect.learning.train.encoder_networks import EncoderGate
    from edgeinspect.learning.train.export import ModelCard, export_graph
    from edgeinspect.learning.train.torch_grad_cam import TorchGradCam
    from tests.unit.learning.train.anomaly.tiny_encoder import TinyEncoder

    torch.manual_seed(2)
    net = EncoderGate(TinyEncoder(), 1, kinds=3).eval()
    for layer in (net.fc, net.extra, net.coarse[-1]):  # 0 before a training
        torch.nn.init.normal_(layer.weight)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 1)).astype(np.uint8)
    card = ModelCard(
        "g", 1, ("pit", "dent", "oil"), "run", {}, {}, {}, "2026-01-01", decides=Decides(decides)
    )
    folder = export_graph(net, card, tmp_path, image[None])
    graph = split_graph(folder / "model.onnx")
    assert graph is not None
    assert graph.kinds == 3
    heat, prob = grad_cam(graph, image)
    expected, expected_prob = TorchGradCam(net, has_good=decides == "defects")(image)
    assert prob == pytest.approx(expected_prob, abs=1e-5)
    assert expected.max() > 0
    if heat.shape == expected.shape:
        assert np.abs(heat - expected).max() < 0.05 * expected.max()
    else:
        assert heat.max() > 0


def test_grad_cam_of_the_shipped_gate_points_at_the_defect() -> None:
    spec = ModelStore(ENGINES).resolve("strip-gate")
    graph = split_graph(spec.path)
    assert graph is not None
    hits = 0
    chosen = [i for i in range(40) if synthetic_strip.render_strip(4711, i).mask.any()][:5]
    for index in chosen:
        strip = synthetic_strip.render_strip(4711, index)
        heat, _prob = grad_cam(graph, strip.image[..., None])
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        near = strip.mask[
            max(0, row * 16 - 24) : row * 16 + 40, max(0, column * 16 - 24) : column * 16 + 40
        ]
        hits += bool(near.any())
    assert hits >= 4


def test_a_graph_without_a_common_feature_map_cannot_be_split(tmp_path: Path) -> None:
    folder = graphs.install(tmp_path, graphs.gate())
    assert split_graph(folder / "model.onnx") is None


def test_occlusion_finds_what_raises_the_probability(tmp_path: Path) -> None:
    graphs.install(tmp_path, graphs.gate())
    engine = load_engine("tiny-gate", "ort", store=ModelStore(tmp_path))
    image = np.full((32, 48, 1), 40, np.uint8)
    image[20:28, 30:42] = 255
    heat, prob = occlusion_map(engine, image)
    assert prob == pytest.approx(image.mean() / 255, abs=1e-4)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 18 <= (row + 0.5) * 32 / heat.shape[0] <= 30
    assert 28 <= (column + 0.5) * 48 / heat.shape[1] <= 44


def test_the_command_draws_and_names_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "store"
    gate = {"suspect": 0.1, "reject": 0.99, "degraded": 0.5}
    graphs.install(root, graphs.gate(), thresholds=gate)
    graphs.install(root, graphs.segmenter(), name="tiny-seg", kind="segmenter")
    monkeypatch.setenv("EDGEINSPECT_STORE", str(root))
    images = tmp_path / "images"
    for folder in ("a", "b"):
        (images / folder).mkdir(parents=True)
        image, _mask = make_image("dark", 3)
        cv2.imwrite(str(images / folder / "same.png"), image)
    out = tmp_path / "out"
    code = main(
        [
            "explain",
            "tiny-seg",
            "--gate",
            "tiny-gate",
            str(images / "a"),
            str(images / "b" / "same.png"),
            "--out",
            str(out),
        ]
    )
    assert code == 0
    assert "occlusion" in capsys.readouterr().out
    document = json.loads((out / "explain.json").read_text())
    assert (document["schema"], document["method"]) == ("edgeinspect.explanation/1", "occlusion")
    assert [each["file"] for each in document["pictures"]] == ["same.png", "same-2.png"]
    assert document["pictures"][0]["regions"][0]["class"] == "dark"
    drawn = cv2.imread(str(out / "same.png"))
    assert drawn is not None
    assert drawn.shape[0] > 3 * 280
    words = ["explain", "tiny-gate", str(images / "a"), "--out"]
    assert main([*words, str(images / "b")]) == 73  # a data set, perhaps
    assert "is not empty" in capsys.readouterr().err
    gradcam = main(
        ["explain", "tiny-gate", str(images / "a"), "--out", str(out), "--method", "gradcam"]
    )
    assert gradcam == 64
    assert main(["explain", "tiny-gate", str(tmp_path / "none.png"), "--out", str(out)]) == 65
    (tmp_path / "empty").mkdir()
    assert main(["explain", "tiny-gate", str(tmp_path / "empty"), "--out", str(out)]) == 65


def test_a_gate_is_explained_without_torch_and_without_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = load_engine("strip-gate/1", "ort", store=ModelStore(ENGINES))
    inspector = build_inspector(engine)
    for package in ("torch", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it raises ImportError
    method = choose_heatmap_method(inspector, AUTO)
    assert method is not None
    assert method.name == OCCLUSION
    assert "edgeinspect[onnx]" in method.description
    with pytest.raises(MissingExtraError, match=r"edgeinspect\[onnx\]"):
        choose_heatmap_method(inspector, GRADCAM)
    engine.close()


def test_a_folder_with_images_in_folders_below_is_told_which(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "set" / name / "1.png"), np.zeros((8, 8), np.uint8))
    spec = model_spec(ModelKind.GATE, FrameShape(8, 8, 1))
    with pytest.raises(DataError, match=f"holds no image.*give one of {tmp_path}/set/a, "):
        list(read_frames([tmp_path / "set"], spec))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no image.*Give image files"):
        list(read_frames([tmp_path / "empty"], spec))
