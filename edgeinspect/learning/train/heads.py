"""The end that every gate shares: a coarse defect map, and one logit from map and features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassifierHead(nn.Module):
    """One logit from the last features and from a map of where a defect may be.

    `fc` on the averaged features is what a plain classifier has; `extra`, on their maxima
    and on the map, starts at zero, so that a loaded classifier answers as it did before.

    Args:
        features: Channels of the last features.
        middle: Channels of the features that the map is read from.
        drop: Share of the averaged features dropped in training.
    """

    def __init__(self, features: int, middle: int, drop: float = 0.1) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop)
        self.coarse = nn.Conv2d(middle, 1, 1)
        self.extra = nn.Linear(features + 2, 1)
        nn.init.zeros_(self.extra.weight)
        nn.init.zeros_(self.extra.bias)

    def forward(self, last: Tensor, middle: Tensor, fc: nn.Module) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, h, w)); `fc` maps averages (N, F) to (N, 1)."""
        coarse = self.coarse(middle)
        more = torch.cat(
            [
                last.amax(dim=(2, 3)),
                coarse.amax(dim=(2, 3)),
                torch.sigmoid(coarse).mean(dim=(2, 3)),
            ],
            dim=1,
        )
        logit = fc(self.drop(last.mean(dim=(2, 3)))) + self.extra(self.drop(more))
        return logit.squeeze(1), coarse
