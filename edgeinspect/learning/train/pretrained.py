"""timm and segmentation-models-pytorch networks with our input, outputs and heads.

Needs the extra `zoo`, which brings torchvision: docs/howto/models.md describes how to install
it beside a torch without CUDA. Nothing is downloaded: pretrained weights are a file, or what is
in the caches of the two libraries.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.errors import MissingExtraError, ModelError, UsageError
from edgeinspect.learning.train.frame_input import (
    IMAGENET_DEVIATION_RGB,
    IMAGENET_MEAN_RGB,
    FrameInput,
)
from edgeinspect.learning.train.networks import ClassifierHead
from edgeinspect.learning.train.weights import (
    CACHED_WEIGHTS,
    check_compatible,
    find_weights,
    read_weights,
)

TIMM_GATES: dict[str, str] = {
    "mobilenetv2": "mobilenetv2_100",
    "mobilenetv3": "mobilenetv3_large_100",
    "mobilenetv3_small": "mobilenetv3_small_100",
    "efficientnet_b0": "efficientnet_b0",
}
"""Our name to timm's; `timm/NAME` accepts any other network with features at two strides."""

UNET_PREFIX = "unet-"
"""`unet-ENCODER`: a U-Net of segmentation-models-pytorch with any of its encoders."""

BODY_CHANNELS = 3
"""Input channels of every network, so that colour weights apply to grey frames unchanged."""

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def is_timm_gate(name: str) -> bool:
    """Whether the name refers to a network of timm."""
    return name in TIMM_GATES or name.startswith("timm/")


def is_smp_segmenter(name: str) -> bool:
    """Whether the name refers to a network of segmentation-models-pytorch."""
    return name.startswith(UNET_PREFIX)


def require_packages(architecture: str) -> None:
    """Import what a network needs, so that a missing package is found before the images are read.

    Raises:
        MissingExtraError: It is not installed.
    """
    if is_timm_gate(architecture):
        _import_package("timm")
    elif is_smp_segmenter(architecture):
        _import_package("segmentation_models_pytorch")


class TimmGate(nn.Module):
    """A timm network with the gate's input and head.

    Args:
        body: Created with `features_only`; has three input channels.
        feature_indices: Of the middle and the last of its features.
        widths: Their channels.
        channels: Of the frame; a grey frame is repeated three times.
        ignore_black: See `FrameInput`.
    """

    def __init__(
        self,
        body: nn.Module,
        feature_indices: tuple[int, int],
        widths: tuple[int, int],
        channels: int,
        *,
        ignore_black: bool,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.adapt = FrameInput(BODY_CHANNELS, ignore_black=ignore_black)
        self.body = body
        self.feature_indices = feature_indices
        self.fc = nn.Linear(widths[1], 1)
        self.head = ClassifierHead(widths[1], widths[0])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, h, w)), mostly at stride 16."""
        features = self.body(self.adapt(_to_color(image, self.channels)))
        middle, last = (features[index] for index in self.feature_indices)
        logit, coarse = self.head(last, middle, self.fc)
        return logit, coarse


class SmpUnet(nn.Module):
    """A U-Net of segmentation-models-pytorch without its decoder blocks below our stride.

    The deep logits are the logits pooled by two. The input is padded right and bottom,
    after standardising, to a multiple of 32.
    """

    def __init__(self, unet: Any, classes: int, channels: int, stride: int, width: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels
        self.adapt = FrameInput(BODY_CHANNELS, ignore_black=False)
        self.encoder = unet.encoder
        self.decoder = unet.decoder
        self.logits = nn.Conv2d(width, classes + 1, 3, padding=1)
        self.presence = nn.Linear(2 * int(unet.encoder.out_channels[-1]), classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (N, K+1, h, w), the same at twice the stride, presence (N, K))."""
        height, width = image.shape[2], image.shape[3]
        x = self.adapt(_to_color(image, self.channels))
        right, bottom = -width % 32, -height % 32
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom))
        features = self.encoder(x)
        last = features[-1]
        presence = self.presence(torch.cat([last.mean(dim=(2, 3)), last.amax(dim=(2, 3))], 1))
        logits = self.logits(self.decoder(features))
        deep = F.avg_pool2d(logits, 2)
        h, w = -(-height // self.stride), -(-width // self.stride)
        return logits[:, :, :h, :w], deep, presence


def build_gate(name: str, *, channels: int, weights: Path | None, ignore_black: bool) -> nn.Module:
    """Build a gate on a timm network.

    Args:
        name: A key of `TIMM_GATES`, or `timm/NAME`.
        channels: Of the frame, 1 or 3 (blue, green, red).
        weights: A file as timm saves it, or `CACHED_WEIGHTS`; from scratch when None.
        ignore_black: See `FrameInput`.

    Raises:
        UsageError: There is no such network, or it lacks features at two strides.
        MissingExtraError: timm or torchvision is not installed.
        ModelError: The weights are missing, or of another network.
    """
    timm = _import_package("timm")
    timm_name = TIMM_GATES.get(name, name.removeprefix("timm/"))
    if not timm.is_model(timm_name):
        raise UsageError(f"timm has no network '{timm_name}'", remedy="See timm.list_models()")
    options: dict[str, Any] = {"features_only": True}
    if weights is not None:
        options |= {"pretrained": True, "exportable": True}
        if weights != CACHED_WEIGHTS:
            options["pretrained_cfg_overlay"] = {"file": str(find_weights(weights, ""))}
    with _report_missing_weights(timm_name, weights):
        body = timm.create_model(timm_name, **options)
    strides = [int(stride) for stride in body.feature_info.reduction()]
    widths = [int(width) for width in body.feature_info.channels()]
    last = len(strides) - 1
    finer = [index for index, stride in enumerate(strides) if 2 * stride == strides[last]]
    if not finer:
        raise UsageError(
            f"'{timm_name}' gives no features at half its last stride",
            remedy="Name a network of convolutions",
        )
    middle = finer[-1]
    net = TimmGate(
        body, (middle, last), (widths[middle], widths[last]), channels, ignore_black=ignore_black
    )
    if weights is not None:
        statistics = timm.get_pretrained_cfg(timm_name)
        _use_pretrained_statistics(net, body, statistics.mean, statistics.std)
    return net


def build_segmenter(
    name: str, classes: int, *, channels: int, stride: int, weights: Path | None
) -> nn.Module:
    """Build `unet-ENCODER`.

    Args:
        name: `unet-` and an encoder of segmentation-models-pytorch.
        classes: Number of defect classes, without background.
        channels: Of the frame, 1 or 3 (blue, green, red).
        stride: 2 or 4.
        weights: A `.pth` of the encoder in its original names, or `CACHED_WEIGHTS`.

    Raises:
        UsageError, MissingExtraError, ModelError: As `build_gate`.
    """
    smp = _import_package("segmentation_models_pytorch")
    encoder = name.removeprefix(UNET_PREFIX)
    widths = (256, 128, 64, 32, 16)
    from_file = weights is not None and weights != CACHED_WEIGHTS
    if from_file and encoder.startswith("tu-"):
        raise UsageError(
            f"a file cannot be loaded into '{encoder}'",
            where="--weights",
            remedy="Give cached, or name an encoder of segmentation-models-pytorch itself",
        )
    with _report_missing_weights(encoder, weights):
        try:
            unet = smp.Unet(
                encoder,
                encoder_weights="imagenet" if weights == CACHED_WEIGHTS else None,
                decoder_channels=widths,
            )
        except (KeyError, RuntimeError) as error:
            if encoder in smp.encoders.get_encoder_names() or encoder.startswith("tu-"):
                raise
            raise UsageError(
                f"segmentation-models-pytorch has no encoder '{encoder}'",
                remedy="See segmentation_models_pytorch.encoders.get_encoder_names()",
            ) from error
    if weights is not None and from_file:
        _load_encoder(unet.encoder, weights)
    removed = {2: 1, 4: 2}[stride]
    unet.decoder.blocks = unet.decoder.blocks[:-removed]
    net = SmpUnet(unet, classes, channels, stride, widths[-1 - removed])
    if weights is not None:
        _use_pretrained_statistics(net, net.encoder, IMAGENET_MEAN_RGB, IMAGENET_DEVIATION_RGB)
    return net


def _load_encoder(encoder: nn.Module, path: Path) -> None:
    weights = read_weights(find_weights(path, ""))
    # The classifier is not part of an encoder.
    kept = {k: v for k, v in weights.items() if k.split(".")[0] not in ("fc", "classifier")}
    check_compatible(kept, encoder.state_dict(), path)
    encoder.load_state_dict(kept)


def _to_color(image: Tensor, channels: int) -> Tensor:
    return image.expand(-1, BODY_CHANNELS, -1, -1) if channels == 1 else image


def _use_pretrained_statistics(net: Any, body: nn.Module, mean: Any, deviation: Any) -> None:
    """Normalise as the weights expect; frames are BGR, so reverse the first convolution."""
    levels = 255 * torch.tensor(mean), 255 * torch.tensor(deviation)
    if net.channels == 1:
        net.adapt.use_fixed_statistics(*levels)
        return
    first = next(m for m in body.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))
    net.adapt.use_fixed_statistics(levels[0].flip(0), levels[1].flip(0))


def _import_package(name: str) -> Any:
    """Import timm or segmentation-models-pytorch.

    Raises:
        MissingExtraError: It is not installed, or its torchvision does not fit torch.
    """
    try:
        with _no_network():
            return _import_with_operators(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        raise MissingExtraError("zoo", missing) from error
    except (ImportError, RuntimeError, OSError) as error:
        where = f"{name} found no torchvision that fits this torch"
        raise MissingExtraError("zoo", "torchvision", where=where) from error


def _import_with_operators(name: str) -> Any:
    """Import a package, and declare the operators that torchvision misses.

    The package index has only builds of torchvision for CUDA. Beside a torch without CUDA such a
    build cannot load its compiled operators; it accepts that, but then registers parts of some of
    them and fails. The networks call none of torchvision's operators: a declaration is enough.
    """
    for _ in OPERATORS:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            found = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if found is None or found[1] not in OPERATORS or found[1] in _declared:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(found[1] + OPERATORS[found[1]])
            _declared[found[1]] = library
    return importlib.import_module(name)


OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""Those of which torchvision registers a part although they did not load."""
_declared: dict[str, torch.library.Library] = {}
"""A declaration ends with its object."""


@contextmanager
def _no_network() -> Iterator[None]:
    """Disable downloads: by environment before the hub client's import, by its constant after."""
    before = {key: os.environ.get(key) for key in OFFLINE_VARIABLES}
    os.environ.update(dict.fromkeys(OFFLINE_VARIABLES, "1"))
    hub: Any = sys.modules.get("huggingface_hub.constants")
    was_offline = getattr(hub, "HF_HUB_OFFLINE", None)
    if was_offline is not None:
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if was_offline is not None:
            hub.HF_HUB_OFFLINE = was_offline
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def _report_missing_weights(name: str, weights: Path | None) -> Iterator[None]:
    """Translate the libraries' many exceptions for missing weights to one ModelError."""
    try:
        with _no_network():
            yield
    except (UsageError, KeyError):
        raise
    except Exception as error:
        if weights is None:
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"no pretrained weights for '{name}' can be loaded: {reason}",
            where=str(weights),
            remedy="Name a file with weights, or leave them out; nothing is downloaded",
        ) from error
