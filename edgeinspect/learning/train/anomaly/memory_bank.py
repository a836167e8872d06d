"""The memory bank: the distance of a cell's descriptor to the nearest of those of good parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHUNK = 512
"""Entries per product: those of more leave a processor's cache before their maximum is taken."""


class MemoryBank(nn.Module):
    """Squared distance to the nearest entry.

    The product with the entries is a linear layer (`Gemm`): every runtime has a fast one, and a
    calibration to INT8 treats it as any other. On one thread it takes half the time of a 1x1
    convolution under ONNX Runtime.

    Args:
        entries: float32 (M, D).
    """

    def __init__(self, entries: Tensor) -> None:
        super().__init__()
        self.chunks = nn.ModuleList()
        # min over entries of |x - b|^2 = |x|^2 - 2 max over entries of (x b - |b|^2 / 2)
        bias = -entries.square().sum(1) / 2
        for weight, offset in zip(entries.split(_CHUNK), bias.split(_CHUNK), strict=True):
            layer = nn.Linear(entries.shape[1], len(weight))
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(offset)
            self.chunks.append(layer)
        self.requires_grad_(False)

    def forward(self, cells: Tensor) -> Tensor:
        """Return float32 (K,) of descriptors (K, D)."""
        nearest = self.chunks[0](cells).amax(dim=1)
        for chunk in list(self.chunks)[1:]:
            nearest = torch.maximum(nearest, chunk(cells).amax(dim=1))
        return cells.square().sum(dim=1) - 2 * nearest
