"""An encoder of a few channels with random weights: no package, and exported in two seconds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgeinspect.learning.train.encoders.encoder import SYMMETRIC


class TinyEncoder(nn.Module):
    """Five strided convolutions."""

    statistics = SYMMETRIC
    widths = (4, 4, 8, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        before = (3, *self.widths[:-1])
        self.steps = nn.ModuleList(
            nn.Conv2d(one, two, 3, 2, 1) for one, two in zip(before, self.widths, strict=True)
        )
        with torch.no_grad():
            for step in self.steps:
                step.weight.normal_(0, 0.5, generator=generator)
                step.bias.zero_()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, features = image, []
        for step in self.steps:
            x = step(x).relu()
            features.append(x)
        return tuple(features)

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(published)
