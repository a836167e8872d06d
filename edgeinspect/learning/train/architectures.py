"""Networks by name: what `--arch` and `--compare` accept.

A gate maps float32 (N, C, H, W), 0 to 255, to `(logit (N,), coarse logits (N, 1, h, w))`; a
segmenter to `(logits (N, K+1, h, w), deep logits, presence (N, K))` and says its `stride`.
Names that are not ours are asked of the zoo, which alone needs the extra of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgeinspect.errors import UsageError

GATES = ("small", "map", "cnn", "resnet18", "resnet34", "resnet50")

RESUNETS: dict[str, tuple[int, ...]] = {
    "resunet-0.3m": (16, 32, 64, 96),
    "resunet-0.8m": (32, 64, 96, 128),
    "resunet-3m": (48, 96, 176, 320),
    "resunet-10m": (48, 96, 192, 336, 544),
}
"""Name to the widths of its stages; all in multiples of 16, as INT8 kernels like them."""

SEGMENTERS = tuple(RESUNETS)
STRIDES = (2, 4)


def gate(
    name: str,
    *,
    channels: int = 1,
    weights: Path | None = None,
    ignore_black: bool = False,
) -> nn.Module:
    """Build a gate.

    Args:
        name: One of `GATES`, or a name of the zoo's.
        channels: Of the frame, 1 or 3 (blue, green, red).
        weights: A `.pth` of pretrained weights; ours are for the ResNets only.
        ignore_black: Pixels of grey 0 are padding, no surface.

    Raises:
        UsageError: There is no such network, or no weights can be loaded into it.
        MissingExtraError: It is in the zoo, and the extra is not installed.
        ModelError: `weights` are of another network.
    """
    if name in ("small", "map", "cnn"):
        if weights is not None:
            raise UsageError(
                f"there are no pretrained weights for '{name}'",
                where="--weights",
                remedy="Train it from scratch, or name a resnet",
            )
        from edgeinspect.learning.train.cnn import CnnGate
        from edgeinspect.learning.train.networks import Gate, MapGate

        builder = {"small": Gate, "map": MapGate, "cnn": CnnGate}[name]
        return builder(channels, ignore_black=ignore_black)
    if name in GATES:
        from edgeinspect.learning.train.resnet import ResNetGate

        net = ResNetGate(name, channels, ignore_black=ignore_black)
        if weights is not None:
            net.load_pretrained(weights)
        return net
    from edgeinspect.learning.train import pretrained

    if not pretrained.has_gate(name):
        raise _no_such("gate", name, GATES, [*pretrained.GATES, "timm/NAME"])
    return pretrained.gate(name, channels=channels, weights=weights, ignore_black=ignore_black)


def segmenter(
    name: str,
    classes: int,
    *,
    channels: int = 1,
    stride: int = 2,
    weights: Path | None = None,
) -> nn.Module:
    """Build a segmenter.

    Args:
        name: One of `SEGMENTERS`, or a name of the zoo's.
        classes: Kinds of defect, background not counted.
        channels: Of the frame, 1 or 3 (blue, green, red).
        stride: Frame pixels per class-map pixel, 2 or 4.
        weights: A `.pth` of pretrained weights of the encoder; in the zoo only.

    Raises:
        UsageError, MissingExtraError, ModelError: As `gate`.
    """
    if stride not in STRIDES:
        raise UsageError(f"no network has stride {stride}", where="--stride", remedy="Give 2 or 4")
    if name in RESUNETS:
        if weights is not None:
            raise UsageError(
                f"there are no pretrained weights for '{name}'",
                where="--weights",
                remedy="Train it from scratch, or name a network of the zoo",
            )
        from edgeinspect.learning.train.networks import ResUNet

        return ResUNet(classes, channels, stride, RESUNETS[name])
    from edgeinspect.learning.train import pretrained

    if not pretrained.has_segmenter(name):
        raise _no_such("segmenter", name, SEGMENTERS, [f"{pretrained.UNET}ENCODER"])
    return pretrained.segmenter(name, classes, channels=channels, stride=stride, weights=weights)


def _no_such(kind: str, name: str, own: Sequence[str], more: Sequence[str]) -> UsageError:
    return UsageError(
        f"there is no {kind} '{name}'",
        remedy=f"Ours: {', '.join(own)}; with the extra 'zoo': {', '.join(more)}",
    )
