"""Builds encoders by name and loads their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import nn

from edgeinspect.errors import UsageError
from edgeinspect.learning.train.encoders.encoder import Encoder
from edgeinspect.learning.train.encoders.pretrained_weights import PretrainedWeights
from edgeinspect.learning.train.weights import check_compatible, read_weights


def _lite(name: str) -> nn.Module:
    from edgeinspect.learning.train.encoders.efficientnet_lite import EfficientNetLite

    return EfficientNetLite(name)


def _resnet(name: str) -> nn.Module:
    from edgeinspect.learning.train.encoders.resnet import ResNet

    return ResNet(name)


def _mobilenet(_name: str) -> nn.Module:
    from edgeinspect.learning.train.encoders.mobilenet_v2 import MobileNetV2

    return MobileNetV2()


def _vgg(name: str) -> nn.Module:
    from edgeinspect.learning.train.encoders.vgg import Vgg16

    return Vgg16(norms=name == "vgg16_bn")


_BUILDERS: dict[str, Callable[[str], nn.Module]] = {
    "lite0": _lite,
    "lite1": _lite,
    "lite2": _lite,
    "resnet18": _resnet,
    "resnet34": _resnet,
    "resnet50": _resnet,
    "mobilenet_v2": _mobilenet,
    "vgg16": _vgg,
    "vgg16_bn": _vgg,
}
ENCODER_NAMES = tuple(_BUILDERS)


def is_encoder(name: str) -> bool:
    """Whether `build_encoder` knows the name."""
    return name in _BUILDERS


def build_encoder(name: str) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        UsageError: There is no such encoder.
    """
    if name not in _BUILDERS:
        raise UsageError(
            f"there is no encoder '{name}'",
            remedy=f"There are: {', '.join(ENCODER_NAMES)}",
        )
    return cast(Encoder, _BUILDERS[name](name))


def load_encoder(encoder: Encoder, weights: PretrainedWeights) -> None:
    """Load published weights into an encoder.

    Raises:
        ModelError: The file cannot be read, or holds the weights of another network.
    """
    module = cast(nn.Module, encoder)
    state = encoder.adapt_state(read_weights(weights.path))
    check_compatible(state, module.state_dict(), weights.path)
    module.load_state_dict(state)
