"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def segmentation_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor, dice_share: float = 0.5
) -> Tensor:
    """Weighted cross-entropy and soft Dice of the defect classes.

    Args:
        logits: float (N, K+1, h, w).
        target: int64 (N, h, w).
        class_weights: float (K+1,).
        dice_share: Weight of Dice; the rest is cross-entropy.
    """
    entropy = F.cross_entropy(logits, target, weight=class_weights)
    probs = logits.softmax(dim=1)[:, 1:]
    wanted = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].to(probs.dtype)
    overlap = (probs * wanted).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3))
    present = wanted.sum(dim=(0, 2, 3)) > 0
    dice = 1 - (2 * overlap + 1) / (total + 1)
    mean_dice = (dice * present).sum() / present.sum().clamp(min=1)
    return (1 - dice_share) * entropy + dice_share * mean_dice


def coarse_targets(masks: Tensor, height: int, width: int) -> Tensor:
    """1 where a cell of a (height, width) grid holds any defect pixel; (N, 1, height, width)."""
    defect = (masks > 0).to(torch.float32).unsqueeze(1)
    return F.adaptive_max_pool2d(defect, (height, width))
