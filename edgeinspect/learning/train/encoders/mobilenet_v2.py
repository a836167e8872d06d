"""MobileNetV2 in plain torch, with torchvision's parameter names.

Source: Sandler et al. 2018, "MobileNetV2"; torchvision's `mobilenet_v2`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edgeinspect.learning.train.encoders.encoder import IMAGENET

_STAGES = (
    # expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_TAPS = (1, 3, 6, 13, 17)
"""Of `features`: the last block at strides 2, 4, 8, 16 and 32."""


class _ConvNorm(nn.Sequential):
    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class _InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.has_shortcut = stride == 1 and inputs == outputs
        expand = [_ConvNorm(inputs, inner, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _ConvNorm(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """The encoder, without the last 1x1 and the classifier."""

    statistics = IMAGENET
    widths = (16, 24, 32, 96, 320)

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [_ConvNorm(3, 32, 3, 2)]
        inputs = 32
        for expansion, channels, count, stride in _STAGES:
            for place in range(count):
                blocks.append(
                    _InvertedResidual(inputs, channels, stride if place == 0 else 1, expansion)
                )
                inputs = channels
        self.features = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features at strides 2 to 32; see `Encoder`."""
        x, features = image, []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in _TAPS:
                features.append(x)
        return tuple(features)

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Encoder`."""
        dropped = ("features.18.", "classifier.")
        return {key: value for key, value in published.items() if not key.startswith(dropped)}
