"""A plain small CNN as a gate: what a classifier costs without residuals."""

from __future__ import annotations

from torch import Tensor, nn

from edgeinspect.learning.train.heads import ClassifierHead
from edgeinspect.learning.train.networks import ConvBnRelu, PerImageStandardize


class CnnGate(nn.Module):
    """Five strided convolutions, one after the other; about 0.1 M parameters.

    Args:
        channels: 1 or 3.
        widths: Channels at strides 2, 4, 8, 16 and 32.
        ignore_black: See `PerImageStandardize`.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (16, 32, 32, 64, 96),
        *,
        ignore_black: bool = False,
    ) -> None:
        super().__init__()
        stem, second, third, fourth, fifth = widths
        self.standardise = PerImageStandardize(ignore_black)
        self.to16 = nn.Sequential(
            ConvBnRelu(channels, stem, 5, 2),
            ConvBnRelu(stem, second, 3, 2),
            ConvBnRelu(second, third, 3, 2),
            ConvBnRelu(third, fourth, 3, 2),
        )
        self.to32 = ConvBnRelu(fourth, fifth, 3, 2)
        self.fc = nn.Linear(fifth, 1)
        self.head = ClassifierHead(fifth, fourth)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, H/16, W/16))."""
        middle = self.to16(self.standardise(image))
        logit, coarse = self.head(self.to32(middle), middle, self.fc)
        return logit, coarse
