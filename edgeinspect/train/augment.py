"""Augmentation of a batch, in torch, by a generator of its own so that a seed decides all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augment:
    """Which changes leave the label true for this part."""

    flip_x: bool = True
    flip_y: bool = True
    transpose: bool = False
    """Only for square crops of parts without a rolling direction."""
    contrast: float = 0.3
    brightness: float = 12.0
    """Grey levels."""
    noise: float = 3.0
    """Grey levels, deviation at most."""


def augment(
    images: Tensor, masks: Tensor, rules: Augment, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change each picture of a batch in its own way.

    Args:
        images: float32 (N, C, H, W), 0 to 255; not changed.
        masks: int64 (N, H, W); not changed.
    """

    def chance(share: float) -> Tensor:
        return torch.rand(len(images), generator=generator) < share

    if rules.flip_x:
        which = chance(0.5)
        images = torch.where(which[:, None, None, None], images.flip(3), images)
        masks = torch.where(which[:, None, None], masks.flip(2), masks)
    if rules.flip_y:
        which = chance(0.5)
        images = torch.where(which[:, None, None, None], images.flip(2), images)
        masks = torch.where(which[:, None, None], masks.flip(1), masks)
    if rules.transpose and images.shape[2] == images.shape[3]:
        which = chance(0.5)
        images = torch.where(which[:, None, None, None], images.transpose(2, 3), images)
        masks = torch.where(which[:, None, None], masks.transpose(1, 2), masks)

    def spread(size: float) -> Tensor:
        return (torch.rand(len(images), 1, 1, 1, generator=generator) * 2 - 1) * size

    mean = images.mean(dim=(2, 3), keepdim=True)
    images = (images - mean) * (1 + spread(rules.contrast)) + mean + spread(rules.brightness)
    deviation = torch.rand(len(images), 1, 1, 1, generator=generator) * rules.noise
    images = images + torch.randn(images.shape, generator=generator) * deviation
    return images.clamp(0, 255), masks
