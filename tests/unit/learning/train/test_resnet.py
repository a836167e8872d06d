"""The ResNets against torchvision's own figures, and weights of its files in a gate."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.errors import ModelError, UsageError
from edgeinspect.learning.onnx_graphs.manifest import ModelCard
from edgeinspect.learning.train import architectures
from edgeinspect.learning.train.export import export_graph
from edgeinspect.learning.train.networks import count_parameters
from edgeinspect.learning.train.resnet import ResNet, ResNetGate
from edgeinspect.storage.model_store import ModelStore

PUBLISHED = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}
KEYS = {"resnet18": 122, "resnet34": 218, "resnet50": 320}
TORCHVISION = {
    "resnet18": [-99.7709, -9.51342, 16.8145, -35.9099, 7.96246],
    "resnet50": [-2116.58, 401.941, 297.269, -3027.01, 103.164],
}
"""The first logits of torchvision 0.28 with the weights of `fill_reproducibly` on its image."""


def fill_reproducibly(net: Any) -> None:
    """Fill weights and statistics with values that depend on the sorted names alone."""
    state = net.state_dict()
    for index, key in enumerate(sorted(state)):
        if key.endswith("num_batches_tracked"):
            continue
        shape = tuple(state[key].shape)
        noise = np.random.default_rng(index).normal(0, 1, shape)
        if len(shape) > 1:
            value = noise * (2 / np.prod(shape[1:])) ** 0.5
        elif key.endswith(("running_var", ".weight")):
            value = 1 + 0.1 * np.abs(noise)
        else:
            value = 0.1 * noise
        state[key] = torch.from_numpy(value.astype(np.float32))
    net.load_state_dict(state)


def make_image() -> Any:
    return torch.from_numpy(np.random.default_rng(99).normal(0, 1, (1, 3, 64, 96)).astype("f4"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_have_torchvisions_names_and_sizes(name: str) -> None:
    net = ResNet(name)
    state = net.state_dict()
    assert count_parameters(net) == PUBLISHED[name]
    assert len(state) == KEYS[name]
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.bias"} <= set(state)
    assert {"layer2.0.downsample.0.weight", "layer4.1.bn2.num_batches_tracked"} <= set(state)


@pytest.mark.parametrize("name", TORCHVISION)
def test_logits_are_torchvisions(name: str) -> None:
    net = ResNet(name).eval()
    fill_reproducibly(net)
    with torch.no_grad():
        logits = net(make_image())[0, :5].numpy()
    np.testing.assert_allclose(logits, TORCHVISION[name], rtol=1e-4)


def save_resnet(folder: Path, outputs: int = 1000, **more: Any) -> tuple[Path, Any]:
    torch.manual_seed(5)
    net = ResNet("resnet18", outputs=outputs).eval()
    for module in net.modules():  # fresh statistics would hide what is not loaded
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = folder / "r18.pth"
    torch.save({**net.state_dict(), **more}, path)
    return path, net


def as_torchvision(rgb: Any) -> Any:
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    return (rgb / 255 - mean) / std


def test_a_trained_classifier_is_unchanged_as_a_gate(tmp_path: Path) -> None:
    """With one output, `fc` included: the gate's own additions start at zero."""
    path, net = save_resnet(tmp_path, outputs=1)
    gate = architectures.build_gate("resnet18", channels=3, weights=path).eval()
    bgr = torch.rand(2, 3, 64, 64) * 255
    with torch.no_grad():
        expected = net(as_torchvision(bgr.flip(1)))[:, 0]
        actual, coarse = gate(bgr)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert coarse.shape == (2, 1, 4, 4)


def test_gray_frames_with_repeated_and_summed_channels(tmp_path: Path) -> None:
    path, net = save_resnet(tmp_path, outputs=1)
    gray = torch.rand(2, 1, 64, 64) * 255
    x = as_torchvision(gray.expand(-1, 3, -1, -1))
    repeated = ResNetGate("resnet18", 1, gray="repeat").eval()
    repeated.load_pretrained(path)
    summed = ResNetGate("resnet18", 1).eval()
    summed.load_pretrained(path)
    with torch.no_grad():
        torch.testing.assert_close(repeated(gray)[0], net(x)[:, 0], rtol=1e-4, atol=1e-4)
        expected = net.bn1(net.conv1(x))
        actual = summed.body.bn1(summed.body.conv1(summed.adapt(gray)))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(actual[inside], expected[inside], rtol=1e-4, atol=1e-4)
    assert (actual - expected).abs().max() > 1e-3  # the border differs


def test_fc_of_another_size_is_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, net = save_resnet(tmp_path, outputs=1000)
    with caplog.at_level(logging.INFO):
        gate = architectures.build_gate("resnet18", channels=3, weights=path)
    assert "fc has 1000 outputs, a gate has 1" in caplog.text
    assert torch.equal(gate.body.layer4[1].conv2.weight, net.layer4[1].conv2.weight)
    assert gate.body.fc.weight.shape == (1, 512)


def test_a_checkpoint_includes_the_input_normalisation(tmp_path: Path) -> None:
    """Resuming builds the network without pretrained weights."""
    path, _net = save_resnet(tmp_path, outputs=1)
    first = architectures.build_gate("resnet18", channels=1, weights=path).eval()
    again = architectures.build_gate("resnet18", channels=1).eval()
    again.load_state_dict(first.state_dict())
    image = torch.rand(1, 1, 64, 64) * 255
    with torch.no_grad():
        assert torch.equal(first(image)[0], again(image)[0])


def test_padding_stays_zero() -> None:
    gate = ResNetGate("resnet18", 1, ignore_black=True).eval()
    gate.adapt.use_fixed_statistics(torch.tensor(120.0), torch.tensor(50.0))
    image = torch.full((1, 1, 32, 32), 200.0)
    image[..., :8] = 0
    adapted = gate.adapt(image)
    assert float(adapted[..., :8].abs().max()) == 0.0
    assert float(adapted[..., 8:].min()) == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.save(ResNet("resnet34").state_dict(), p), "another network: has also"),
        (lambda p: torch.save(ResNet("resnet50").state_dict(), p), "another network: lacks|shapes"),
        (lambda p: torch.save({"epoch": 3}, p), "no state dict"),
        (lambda p: p.write_bytes(b"nothing"), "cannot be read"),
        (lambda p: None, "no such file"),
    ],
)
def test_incompatible_weights(make: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(ModelError, match=message):
        architectures.build_gate("resnet18", channels=3, weights=path)


def test_weights_of_parallel_training_in_a_wrapped_file(tmp_path: Path) -> None:
    path, net = save_resnet(tmp_path)
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)
    gate = architectures.build_gate("resnet18", channels=3, weights=path)
    assert torch.equal(gate.body.layer1[0].conv1.weight, net.layer1[0].conv1.weight)


def test_cached_weights_are_found_and_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"no weights resnet18-\*\.pth"):
        architectures.build_gate("resnet18", weights=Path("cached"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    path, _net = save_resnet(tmp_path)
    path.rename(tmp_path / "hub" / "checkpoints" / "resnet18-abc.pth")
    assert architectures.build_gate("resnet18", weights=Path("cached")).adapt.has_fixed_statistics


@pytest.mark.parametrize("name", architectures.GATE_NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_own_gate_has_the_output_form(name: str, channels: int) -> None:
    net = architectures.build_gate(name, channels=channels).eval()
    assert not hasattr(net, "stride")  # identifies a segmenter at export
    with torch.no_grad():
        logit, coarse = net(torch.rand(2, channels, 48, 80) * 255)
    assert logit.shape == (2,)
    assert coarse.ndim == 4
    assert coarse.shape[:2] == (2, 1)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resunet-0.3m", 0.3), ("resunet-0.8m", 0.8), ("resunet-3m", 3), ("resunet-10m", 10)],
)
@pytest.mark.parametrize("stride", [2, 4])
def test_every_own_segmenter_has_the_size_of_its_name(
    name: str, millions: float, stride: int
) -> None:
    net = architectures.build_segmenter(name, 4, stride=stride)
    assert count_parameters(net) == pytest.approx(millions * 1e6, rel=0.12)
    assert net.stride == stride
    assert all(width % 16 == 0 for width in architectures.RESUNET_WIDTHS[name])


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match=r"no gate 'resnet19'.*Ours: small, .*cnn, resnet18"):
        architectures.build_gate("resnet19")
    with pytest.raises(UsageError, match=r"no segmenter 'unet'.*unet-ENCODER"):
        architectures.build_segmenter("unet", 3)
    with pytest.raises(UsageError, match="2 or 4"):
        architectures.build_segmenter("resunet-3m", 3, stride=8)
    with pytest.raises(UsageError, match="no pretrained weights"):
        architectures.build_gate("small", weights=Path("w.pth"))
    with pytest.raises(UsageError, match="no pretrained weights"):
        architectures.build_segmenter("resunet-3m", 2, weights=Path("w.pth"))


def test_export_of_a_gate_under_the_contract(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = architectures.build_gate("cnn", channels=3).eval()
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    card = ModelCard("cnn", 1, ("defect",), "run", {}, {}, {}, "2026-01-01")
    export_graph(net, card, tmp_path, frames)
    spec = ModelStore(tmp_path).resolve("cnn")
    assert (spec.color, spec.shape.channels) == ("bgr", 3)
