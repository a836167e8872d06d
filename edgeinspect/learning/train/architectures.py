"""Builds networks by name, as `--arch` and `--compare` accept them.

A gate maps float32 (N, C, H, W), 0 to 255, to `(logit (N,), coarse logits (N, 1, h, w))`; a
segmenter to `(logits (N, K+1, h, w), deep logits, presence (N, K))` and has a `stride`.
Other names are those of timm and segmentation-models-pytorch (extra `zoo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgeinspect.errors import UsageError
from edgeinspect.learning.train import defaults

GATE_NAMES = ("small", "map", "cnn", "resnet18", "resnet34", "resnet50")

RESUNET_WIDTHS: dict[str, tuple[int, ...]] = {
    "resunet-0.3m": (16, 32, 64, 96),
    "resunet-0.8m": (32, 64, 96, 128),
    "resunet-3m": (48, 96, 176, 320),
    "resunet-10m": (48, 96, 192, 336, 544),
}
"""Channels of the stages by name; multiples of 16 suit INT8 kernels."""

SEGMENTER_NAMES = tuple(RESUNET_WIDTHS)
STRIDES = (2, 4)
DEFAULT_GATE, DEFAULT_SEGMENTER = defaults.GATE.architecture, defaults.SEGMENTER.architecture


def build_gate(
    name: str,
    *,
    channels: int = 1,
    weights: Path | None = None,
    ignore_black: bool = False,
) -> nn.Module:
    """Build a gate.

    Args:
        name: One of `GATE_NAMES`, or a gate of timm's.
        channels: Of the frame, 1 or 3 (blue, green, red).
        weights: A `.pth` of pretrained weights, for ResNets and timm's networks.
        ignore_black: Pixels of grey level 0 are letterbox padding.

    Raises:
        UsageError: There is no such network, or it has no pretrained weights.
        MissingExtraError: The network is timm's, and the extra is not installed.
        ModelError: `weights` are of another network.
    """
    if name in ("small", "map", "cnn"):
        if weights is not None:
            raise _no_weights(name, "a resnet")
        from edgeinspect.learning.train.networks import CnnGate, MapGate, SmallGate

        builder = {"small": SmallGate, "map": MapGate, "cnn": CnnGate}[name]
        return builder(channels, ignore_black=ignore_black)
    if name in GATE_NAMES:
        from edgeinspect.learning.train.resnet import ResNetGate

        net = ResNetGate(name, channels, ignore_black=ignore_black)
        if weights is not None:
            net.load_pretrained(weights)
        return net
    from edgeinspect.learning.train import pretrained

    if not pretrained.is_timm_gate(name):
        other = [*pretrained.TIMM_GATES, "timm/NAME"]
        raise _unknown_architecture("gate", name, GATE_NAMES, other)
    return pretrained.build_gate(
        name, channels=channels, weights=weights, ignore_black=ignore_black
    )


def build_segmenter(
    name: str,
    classes: int,
    *,
    channels: int = 1,
    stride: int = 2,
    weights: Path | None = None,
) -> nn.Module:
    """Build a segmenter.

    Args:
        name: One of `SEGMENTER_NAMES`, or one of segmentation-models-pytorch's.
        classes: Number of defect classes, without background.
        channels: Of the frame, 1 or 3 (blue, green, red).
        stride: Frame pixels per class-map cell, 2 or 4.
        weights: A `.pth` of pretrained weights of the encoder; not for our own networks.

    Raises:
        UsageError, MissingExtraError, ModelError: As `build_gate`.
    """
    if stride not in STRIDES:
        raise UsageError(f"no network has stride {stride}", where="--stride", remedy="Give 2 or 4")
    if name in RESUNET_WIDTHS:
        if weights is not None:
            raise _no_weights(name, "a network of the extra 'zoo'")
        from edgeinspect.learning.train.networks import ResUNet

        return ResUNet(classes, channels, stride, RESUNET_WIDTHS[name])
    from edgeinspect.learning.train import pretrained

    if not pretrained.is_smp_segmenter(name):
        other = [f"{pretrained.UNET_PREFIX}ENCODER"]
        raise _unknown_architecture("segmenter", name, SEGMENTER_NAMES, other)
    return pretrained.build_segmenter(
        name, classes, channels=channels, stride=stride, weights=weights
    )


def _no_weights(name: str, alternative: str) -> UsageError:
    return UsageError(
        f"there are no pretrained weights for '{name}'",
        where="--weights",
        remedy=f"Train it from scratch, or name {alternative}",
    )


def _unknown_architecture(
    kind: str, name: str, own: Sequence[str], other: Sequence[str]
) -> UsageError:
    return UsageError(
        f"there is no {kind} '{name}'",
        remedy=f"Ours: {', '.join(own)}; with the extra 'zoo': {', '.join(other)}",
    )
