"""What an encoder is: a network whose features at five strides other networks build on.

The gate, the segmenter and the good-parts model all take one, so that one set of pretrained
weights serves all three, and a new encoder is one module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

STRIDES = (2, 4, 8, 16, 32)
"""Input pixels per feature cell of the five levels of features."""


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Mean and deviation of each channel in grey levels (0 to 255), in the order R, G, B."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


IMAGENET = InputStatistics((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Of torchvision's weights."""
SYMMETRIC = InputStatistics((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""Of EfficientNet-Lite's weights."""


@runtime_checkable
class Encoder(Protocol):
    """A network with features at five strides."""

    widths: tuple[int, ...]
    """Channels of the features at `STRIDES`."""
    statistics: InputStatistics
    """What the published weights expect of their input."""

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features at `STRIDES` of a normalised image, float32 (N, 3, H, W), RGB.

        A level has ceil(side / stride) cells.
        """
        ...

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights under this network's names, without their classifier."""
        ...


def first_convolution(net: nn.Module) -> nn.Conv2d:
    """Return the convolution that takes the image."""
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def take_bgr(net: nn.Module) -> None:
    """Reverse the first convolution, which was trained on RGB; frames are BGR."""
    first = first_convolution(net)
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))


def take_grey(net: nn.Module) -> None:
    """Make the first convolution take one channel, which counts as R, G and B.

    The result is the same as for three equal channels, for a third of the products.
    """
    first = first_convolution(net)
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    first.in_channels = 1
