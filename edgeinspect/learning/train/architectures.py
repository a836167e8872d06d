"""Builds networks by name, as `--arch` and `--compare` accept them.

A gate maps float32 (N, C, H, W), 0 to 255, to `(logit (N,), coarse logits (N, 1, h, w))`, one
of kinds to logits (N, K+1) of good and of each kind instead; a segmenter to
`(logits (N, K+1, h, w), deep logits, presence (N, K))`, and has a `stride`. Other names are those
of timm and segmentation-models-pytorch (extra `zoo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from edgeinspect.errors import UsageError
from edgeinspect.learning.train.encoders import (
    ENCODER_NAMES,
    NO_WEIGHTS,
    PretrainedWeights,
    build_encoder,
    find_pretrained,
    is_encoder,
    load_encoder,
)
from edgeinspect.learning.train.weights import CACHED_WEIGHTS
from edgeinspect.system import sha256_of

OWN_GATES = ("small", "map", "cnn")
"""Gates that are trained from scratch."""
GATE_NAMES = (*ENCODER_NAMES, *OWN_GATES)

RESUNET_WIDTHS: dict[str, tuple[int, ...]] = {
    "resunet-0.3m": (16, 32, 64, 96),
    "resunet-0.8m": (32, 64, 96, 128),
    "resunet-3m": (48, 96, 176, 320),
    "resunet-10m": (48, 96, 192, 336, 544),
}
"""Channels of the stages by name; multiples of 16 suit INT8 kernels."""

SEGMENTER_NAMES = (*ENCODER_NAMES, *RESUNET_WIDTHS)
STRIDES = (2, 4)


def build_gate(
    name: str,
    *,
    channels: int = 1,
    weights: Path | None = None,
    ignore_black: bool = False,
    kinds: int = 0,
) -> nn.Module:
    """Build a gate.

    Args:
        name: One of `GATE_NAMES`, or a gate of timm's.
        channels: Of the frame, 1 or 3 (blue, green, red).
        weights: See `encoders.find_pretrained`; of timm's networks a file, or
            `CACHED_WEIGHTS`.
        ignore_black: Pixels of grey level 0 are letterbox padding.
        kinds: Number of kinds of defects that it tells apart; 0: only defective or good.

    Raises:
        UsageError: There is no such network, or it has no pretrained weights.
        MissingExtraError: The package of the network, or of its weights, is not installed.
        ModelError: `weights` are of another network.
    """
    if is_encoder(name):
        from edgeinspect.learning.train.encoder_networks import EncoderGate

        encoder = build_encoder(name)
        net = EncoderGate(encoder, channels, kinds, ignore_black=ignore_black)
        if (found := find_pretrained(name, weights)) is not None:
            load_encoder(encoder, found)
            net.body.use_pretrained(encoder)
        return net
    if kinds:
        check_tells_kinds(name)
    if name in OWN_GATES:
        if weights not in (None, NO_WEIGHTS):
            raise _no_weights(name)
        from edgeinspect.learning.train.networks import CnnGate, MapGate, SmallGate

        builder = {"small": SmallGate, "map": MapGate, "cnn": CnnGate}[name]
        return builder(channels, ignore_black=ignore_black)
    from edgeinspect.learning.train import pretrained

    if not pretrained.is_timm_gate(name):
        other = [*pretrained.TIMM_GATES, "timm/NAME"]
        raise _unknown_architecture("gate", name, GATE_NAMES, other)
    return pretrained.build_gate(
        name, channels=channels, weights=_of_others(weights), ignore_black=ignore_black
    )


def check_tells_kinds(name: str) -> None:
    """Check that a gate of this network can tell kinds of defects apart.

    Raises:
        UsageError: It cannot.
    """
    if not is_encoder(name):
        raise UsageError(
            f"'{name}' does not tell kinds of defects apart",
            where="--arch",
            remedy=f"Give one of {', '.join(ENCODER_NAMES)}, or --no-kinds",
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
        weights: Of the encoder, as for `build_gate`.

    Raises:
        UsageError, MissingExtraError, ModelError: As `build_gate`.
    """
    if stride not in STRIDES:
        raise UsageError(f"no network has stride {stride}", where="--stride", remedy="Give 2 or 4")
    if is_encoder(name):
        from edgeinspect.learning.train.encoder_networks import EncoderUNet

        encoder = build_encoder(name)
        net = EncoderUNet(encoder, classes, channels, stride)
        if (found := find_pretrained(name, weights)) is not None:
            load_encoder(encoder, found)
            net.body.use_pretrained(encoder)
        return net
    if name in RESUNET_WIDTHS:
        if weights not in (None, NO_WEIGHTS):
            raise _no_weights(name)
        from edgeinspect.learning.train.networks import ResUNet

        return ResUNet(classes, channels, stride, RESUNET_WIDTHS[name])
    from edgeinspect.learning.train import pretrained

    if not pretrained.is_smp_segmenter(name):
        other = [f"{pretrained.UNET_PREFIX}ENCODER"]
        raise _unknown_architecture("segmenter", name, SEGMENTER_NAMES, other)
    return pretrained.build_segmenter(
        name, classes, channels=channels, stride=stride, weights=_of_others(weights)
    )


def _of_others(weights: Path | None) -> Path | None:
    """Return the weights of a network of another library, which has none by default."""
    return None if weights == NO_WEIGHTS else weights


def pretrained_weights(name: str, weights: Path | None) -> PretrainedWeights | None:
    """Return the weights that a network named so starts from; None from scratch.

    Raises:
        MissingExtraError, ModelError, UsageError: As `encoders.find_pretrained`.
    """
    if is_encoder(name):
        return find_pretrained(name, weights)
    if weights in (None, NO_WEIGHTS, CACHED_WEIGHTS):
        return None
    return PretrainedWeights(weights, weights.name, sha256_of(weights))


def _no_weights(name: str) -> UsageError:
    return UsageError(
        f"there are no pretrained weights for '{name}'",
        where="--weights",
        remedy=f"Leave --weights out, or give one of {', '.join(ENCODER_NAMES)} as --arch",
    )


def _unknown_architecture(
    kind: str, name: str, own: Sequence[str], other: Sequence[str]
) -> UsageError:
    return UsageError(
        f"there is no {kind} '{name}'",
        remedy=f"Ours: {', '.join(own)}; with the extra 'zoo': {', '.join(other)}",
    )
