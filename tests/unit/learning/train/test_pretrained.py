"""The zoo through small stand-ins for its two libraries, and through them where they are."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import needs

torch = needs.library("torch")

from torch import nn

from edgeinspect.errors import MissingExtraError, ModelError, UsageError
from edgeinspect.learning.train import architectures, pretrained

IS_INSTALLED = all(
    importlib.util.find_spec(name) for name in ("timm", "segmentation_models_pytorch")
)
MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


class Features(nn.Module):
    """Four convolutions; features at strides 4, 8, 16 and 32."""

    def __init__(self, strides: tuple[int, ...] = (4, 8, 16, 32)) -> None:
        super().__init__()
        widths = (4, 8, 8, 12)[: len(strides)]
        self.feature_info = types.SimpleNamespace(
            reduction=lambda: list(strides), channels=lambda: list(widths)
        )
        self.convs = nn.ModuleList()
        before, at = 3, 1
        for width, stride in zip(widths, strides, strict=True):
            self.convs.append(nn.Conv2d(before, width, 3, stride // at, 1))
            before, at = width, stride

    def forward(self, x: Any) -> list[Any]:
        out = []
        for conv in self.convs:
            x = torch.relu(conv(x))
            out.append(x)
        return out


class Encoder(nn.Module):
    out_channels = (3, 4, 8, 8, 12, 16)

    def __init__(self) -> None:
        super().__init__()
        pairs = zip(self.out_channels, self.out_channels[1:], strict=False)
        self.stages = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs])

    def forward(self, x: Any) -> list[Any]:
        out = [x]
        for stage in self.stages:
            out.append(stage(out[-1]))
        return out


class Decoder(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = zip((Encoder.out_channels[-1], *widths), widths, strict=False)
        self.blocks = nn.ModuleList([nn.Conv2d(a, b, 1) for a, b in pairs])

    def forward(self, features: list[Any]) -> Any:
        x = features[-1]
        for block in self.blocks:
            x = block(nn.functional.interpolate(x, scale_factor=2.0))
        return x


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """timm and segmentation-models-pytorch, reduced to the functions that are used."""
    calls: dict[str, Any] = {}
    timm: Any = types.ModuleType("timm")
    timm.is_model = lambda name: name != "nope"
    timm.get_pretrained_cfg = lambda name: types.SimpleNamespace(mean=MEAN, std=STD)

    def create_model(name: str, **options: Any) -> nn.Module:
        calls.update(options, name=name)
        if options.get("pretrained") and "pretrained_cfg_overlay" not in options:
            raise RuntimeError("cannot find the requested files in the local cache")
        torch.manual_seed(4)
        return Features((16,)) if name == "vit" else Features()

    timm.create_model = create_model
    smp: Any = types.ModuleType("segmentation_models_pytorch")
    smp.encoders = types.SimpleNamespace(get_encoder_names=lambda: ["resnet18"])

    def unet(encoder: str, **options: Any) -> Any:
        if encoder not in ("resnet18", "tu-x"):
            raise KeyError(encoder)
        if options["encoder_weights"]:
            raise OSError("no network")
        return types.SimpleNamespace(
            encoder=Encoder(), decoder=Decoder(options["decoder_channels"])
        )

    smp.Unet = unet
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", smp)
    return calls


@pytest.mark.parametrize("weights", [None, Path("none")])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_gate_of_timm(channels: int, weights: Path | None, fakes: dict[str, Any]) -> None:
    net = architectures.build_gate("mobilenetv2", channels=channels, weights=weights).eval()
    assert fakes == {"name": "mobilenetv2_100", "features_only": True}
    logit, coarse = net(torch.rand(2, channels, 64, 96) * 255)
    assert logit.shape == (2,)
    assert coarse.shape == (2, 1, 4, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_features_use_rgb_and_the_networks_statistics(
    channels: int, fakes: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"read by timm")
    net = architectures.build_gate("timm/vgg16", channels=channels, weights=file).eval()
    assert fakes["pretrained_cfg_overlay"] == {"file": str(file)}
    torch.manual_seed(4)
    original = Features()
    frame = torch.rand(1, channels, 64, 64) * 255
    rgb = (frame.flip(1) if channels == 3 else frame.expand(-1, 3, -1, -1)) / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    expected = original((rgb - mean) / std)[-1]
    features = net.body(net.adapt(frame.expand(-1, 3, -1, -1)))[-1]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_unet_of_smp(stride: int, channels: int, fakes: dict[str, Any]) -> None:
    net = architectures.build_segmenter("unet-resnet18", 3, channels=channels, stride=stride).eval()
    logits, deep, presence = net(torch.rand(2, channels, 50, 70) * 255)
    assert net.stride == stride
    assert logits.shape == (2, 4, -(-50 // stride), -(-70 // stride))
    assert deep.shape == (2, 4, 64 // stride // 2, 96 // stride // 2)
    assert presence.shape == (2, 3)
    (logits.mean() + deep.mean() + presence.mean()).backward()
    assert all(p.grad is not None for p in net.parameters())  # every parameter is trained


def test_encoder_weights_from_a_file(fakes: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(9)
    state = Encoder().state_dict()
    torch.save({**state, "fc.weight": torch.zeros(1)}, tmp_path / "e.pth")
    net = architectures.build_segmenter("unet-resnet18", 2, channels=1, weights=tmp_path / "e.pth")
    assert torch.equal(net.encoder.stages[2].weight, state["stages.2.weight"])
    assert net.adapt.has_fixed_statistics
    state.pop("stages.1.bias")
    torch.save(state, tmp_path / "e.pth")
    with pytest.raises(ModelError, match=r"lacks stages\.1\.bias"):
        architectures.build_segmenter("unet-resnet18", 2, weights=tmp_path / "e.pth")
    with pytest.raises(UsageError, match="--weights"):
        architectures.build_segmenter("unet-tu-x", 2, weights=tmp_path / "e.pth")


def test_messages_for_missing_networks_and_weights(fakes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="timm has no network 'nope'"):
        architectures.build_gate("timm/nope")
    with pytest.raises(UsageError, match="no features at half its last stride"):
        architectures.build_gate("timm/vit")
    with pytest.raises(UsageError, match="no encoder 'nope'"):
        architectures.build_segmenter("unet-nope", 2)
    with pytest.raises(ModelError, match=r"requested files.*nothing is downloaded"):
        architectures.build_gate("mobilenetv2", weights=Path("cached"))
    with pytest.raises(ModelError, match=r"no network.*nothing is downloaded"):
        architectures.build_segmenter("unet-resnet18", 2, weights=Path("cached"))
    with pytest.raises(ModelError, match="no such file"):
        architectures.build_gate("mobilenetv2", weights=Path("absent.pth"))


@contextmanager
def hidden(name: str, error: Exception) -> Iterator[None]:
    """Importing `name` raises."""

    class Finder:
        def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
            if fullname == name:
                raise error

    finder: Any = Finder()
    kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] == name}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.modules.update(kept)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("gone", name="timm"), "package 'timm' of the extra 'zoo'"),
        (ModuleNotFoundError("gone", name="torchvision.ops"), "'torchvision' of the extra 'zoo'"),
        (RuntimeError("operator torchvision::other does not exist"), "no torchvision that fits"),
    ],
)
def test_a_missing_extra_names_its_package(error: Exception, words: str) -> None:
    with hidden("timm", error), pytest.raises(MissingExtraError, match=words) as caught:
        architectures.build_gate("efficientnet_b0")
    assert caught.value.exit_code == 69


def test_operators_that_torchvision_misses_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a torch without CUDA the index's torchvision registers parts of some, and fails."""
    names = iter(pretrained.OPERATORS)
    monkeypatch.setattr(pretrained, "_declared", {})
    fragments: list[str] = []
    library = types.SimpleNamespace(define=fragments.append)
    monkeypatch.setattr(torch.library, "Library", lambda *words: library)

    def import_module(name: str) -> str:
        for missing in names:
            raise RuntimeError(f"operator torchvision::{missing} does not exist")
        return name

    monkeypatch.setattr(pretrained.importlib, "import_module", import_module)
    assert pretrained._import_package("timm") == "timm"
    assert [text.partition("(")[0] for text in fragments] == ["nms", "qnms"]


def test_downloads_are_disabled(fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    constants: Any = types.ModuleType("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = False
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", constants)
    with pretrained._no_network():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        assert constants.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", pretrained.TIMM_GATES)
def test_timm_gates_if_installed(name: str) -> None:
    if not IS_INSTALLED:
        with pytest.raises(MissingExtraError):
            architectures.build_gate(name)
        return
    net = architectures.build_gate(name, channels=1).eval()
    with torch.no_grad():
        logit, coarse = net(torch.rand(2, 1, 64, 96) * 255)
    assert (logit.shape, coarse.shape) == ((2,), (2, 1, 4, 6))


@pytest.mark.parametrize("name", ["unet-resnet18", "unet-efficientnet-b0", "unet-tu-resnet18"])
def test_smp_unets_if_installed(name: str) -> None:
    if not IS_INSTALLED:
        with pytest.raises(MissingExtraError):
            architectures.build_segmenter(name, 2)
        return
    net = architectures.build_segmenter(name, 2, channels=3, stride=4).eval()
    with torch.no_grad():
        logits, _deep, presence = net(torch.rand(1, 3, 50, 70) * 255)
    assert (logits.shape, presence.shape) == ((1, 3, 13, 18), (1, 2))
