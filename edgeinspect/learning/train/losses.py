"""What training minimises. Sums go over all processes, so that N of them equal one.

Each process gives its own images' part of the loss: the parts add up to the loss of the
whole batch, and so do their gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeinspect.learning.datasets import VOID
from edgeinspect.learning.train.recipe import LossName


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum of `value` over all processes; its gradient is that of this process' part."""
    if not torch.distributed.is_initialized():
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return value + (total - value.detach())


def local_fraction() -> float:
    """This process' part of a term that every process computes alike."""
    return 1 / torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1.0


def segmentation_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor, kind: LossName = "ce+dice"
) -> Tensor:
    """Half cross-entropy or focal, half Dice, Tversky or Lovász, of the defect classes.

    Args:
        logits: float (N, K+1, h, w).
        target: int64 (N, h, w); `VOID` where nothing is known, which costs nothing.
        class_weights: float (K+1,).
        kind: Which halves.

    Source: Milletari 2016 (Dice), Salehi 2017 (Tversky 0.3, 0.7), Berman 2018 (Lovász),
        Lin 2017 (focal, gamma 2)
    """
    first, second = kind.split("+")
    known = target != VOID
    pixels = F.cross_entropy(
        logits, target, weight=class_weights, ignore_index=VOID, reduction="none"
    )
    target = target * known
    if first == "focal":
        log_probs = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
        pixels = pixels * (1 - log_probs.exp()) ** 2 * 5
    weight = all_reduce_sum((class_weights[target] * known).sum().detach())
    entropy = pixels.sum() / weight
    if second == "lovasz":
        region = _lovasz(logits.softmax(dim=1), target, known)
    else:
        miss, extra = (0.5, 0.5) if second == "dice" else (0.7, 0.3)
        probs = logits.softmax(dim=1)[:, 1:] * known[:, None]
        region = _tversky(probs, target, miss, extra) * local_fraction()
    return 0.5 * entropy + 0.5 * region


def _tversky(probs: Tensor, target: Tensor, miss: float, extra: float) -> Tensor:
    """1 less the Tversky index, over the classes in the batch; both 0.5 is Dice."""
    wanted = F.one_hot(target, probs.shape[1] + 1).permute(0, 3, 1, 2)[:, 1:].to(probs.dtype)
    overlap = all_reduce_sum((probs * wanted).sum(dim=(0, 2, 3)))
    found = all_reduce_sum(probs.sum(dim=(0, 2, 3)))
    true = all_reduce_sum(wanted.sum(dim=(0, 2, 3)))
    present = (true > 0).to(probs.dtype)
    index = (overlap + 0.5) / (overlap + miss * (true - overlap) + extra * (found - overlap) + 0.5)
    return ((1 - index) * present).sum() / present.sum().clamp(min=1)


def _lovasz(probs: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Lovász-softmax per image, mean over its classes and over all processes' images."""
    losses = []
    for whole, all_true, seen in zip(probs, target, known, strict=True):
        one, true = whole[:, seen], all_true[seen]
        parts = []
        for class_id in range(1, probs.shape[1]):
            wanted = (true == class_id).to(one.dtype).flatten()
            if not wanted.any():
                continue
            errors = (wanted - one[class_id].flatten()).abs()
            order = errors.argsort(descending=True)
            sorted_true = wanted[order]
            left = sorted_true.sum() - sorted_true.cumsum(0)
            union = sorted_true.sum() + (1 - sorted_true).cumsum(0)
            jaccard = 1 - left / union
            gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
            parts.append((errors[order] * gradient).sum())
        losses.append(torch.stack(parts).mean() if parts else one.sum() * 0)
    count = all_reduce_sum(torch.tensor(float(len(losses))))
    return torch.stack(losses).sum() / count


def binary_loss(logits: Tensor, wanted: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Mean binary cross-entropy over all processes' elements."""
    weight = torch.tensor(positive_weight, device=logits.device)
    total = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight, reduction="sum")
    return total / all_reduce_sum(torch.tensor(float(logits.numel()), device=logits.device)).clamp(
        min=1
    )


def coarse_targets(masks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of a (height, width) grid: where a cell holds any defect pixel, and where that is known.

    Returns:
        float32 of 0 and 1, and bool; (N, 1, height, width). A cell of which a part is void
        and no pixel a defect is not known.
    """
    void = masks == VOID
    defect = ((masks > 0) & ~void).to(torch.float32).unsqueeze(1)
    wanted = F.adaptive_max_pool2d(defect, (height, width))
    unknown = F.adaptive_max_pool2d(void.to(torch.float32).unsqueeze(1), (height, width)) > 0
    return wanted, (wanted > 0) | ~unknown
