"""Loss functions whose sums run over all processes, so that N processes equal one.

Each process computes its own images' part of the loss: the parts, and so the gradients, add
up to those of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edgeinspect.learning.datasets import VOID
from edgeinspect.learning.train.recipe import LossName


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes, with the gradient of this process' part."""
    if not torch.distributed.is_initialized():
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return value + (total - value.detach())


def local_fraction() -> float:
    """Return this process' share of a term that every process computes alike."""
    return 1 / torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1.0


def segmentation_loss(
    logits: Tensor, target: Tensor, class_weights: Tensor, kind: LossName = "ce+dice"
) -> Tensor:
    """Return the mean of a pixel loss (cross-entropy or focal) and a region loss.

    Args:
        logits: float (N, K+1, h, w).
        target: int64 (N, h, w); pixels of `VOID` do not contribute.
        class_weights: float (K+1,).
        kind: Pixel loss and region loss (Dice, Tversky or Lovász over the defect classes).

    Source: Milletari 2016 (Dice), Salehi 2017 (Tversky 0.3, 0.7), Berman 2018 (Lovász),
        Lin 2017 (focal, gamma 2)
    """
    pixel_kind, region_kind = kind.split("+")
    known = target != VOID
    pixels = F.cross_entropy(
        logits, target, weight=class_weights, ignore_index=VOID, reduction="none"
    )
    target = target * known
    if pixel_kind == "focal":
        log_probs = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
        pixels = pixels * (1 - log_probs.exp()) ** 2 * 5
    weight = all_reduce_sum((class_weights[target] * known).sum().detach())
    pixel_loss = pixels.sum() / weight
    if region_kind == "lovasz":
        region_loss = _lovasz(logits.softmax(dim=1), target, known)
    else:
        miss, extra = (0.5, 0.5) if region_kind == "dice" else (0.7, 0.3)
        probs = logits.softmax(dim=1)[:, 1:] * known[:, None]
        region_loss = _tversky(probs, target, miss, extra) * local_fraction()
    return 0.5 * pixel_loss + 0.5 * region_loss


def _tversky(probs: Tensor, target: Tensor, miss: float, extra: float) -> Tensor:
    """Return 1 minus the Tversky index over the classes in the batch; both 0.5 is Dice."""
    one_hot = F.one_hot(target, probs.shape[1] + 1).permute(0, 3, 1, 2)[:, 1:].to(probs.dtype)
    overlap = all_reduce_sum((probs * one_hot).sum(dim=(0, 2, 3)))
    pred = all_reduce_sum(probs.sum(dim=(0, 2, 3)))
    true = all_reduce_sum(one_hot.sum(dim=(0, 2, 3)))
    present = (true > 0).to(probs.dtype)
    # The order of the terms determines the last bits of the gradient.
    index = (overlap + 0.5) / (overlap + miss * (true - overlap) + extra * (pred - overlap) + 0.5)
    return ((1 - index) * present).sum() / present.sum().clamp(min=1)


def _lovasz(probs: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Return Lovász-softmax per image, averaged over its classes and all processes' images."""
    losses = []
    for image_probs, image_target, image_known in zip(probs, target, known, strict=True):
        pixels, true = image_probs[:, image_known], image_target[image_known]
        parts = []
        for class_id in range(1, probs.shape[1]):
            is_class = (true == class_id).to(pixels.dtype).flatten()
            if not is_class.any():
                continue
            errors = (is_class - pixels[class_id].flatten()).abs()
            order = errors.argsort(descending=True)
            sorted_true = is_class[order]
            left = sorted_true.sum() - sorted_true.cumsum(0)
            union = sorted_true.sum() + (1 - sorted_true).cumsum(0)
            jaccard = 1 - left / union
            gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
            parts.append((errors[order] * gradient).sum())
        losses.append(torch.stack(parts).mean() if parts else pixels.sum() * 0)
    count = all_reduce_sum(torch.tensor(float(len(losses))))
    return torch.stack(losses).sum() / count


def binary_loss(logits: Tensor, target: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Return the mean binary cross-entropy over all processes' elements."""
    weight = torch.tensor(positive_weight, device=logits.device)
    total = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="sum")
    count = torch.tensor(float(logits.numel()), device=logits.device)
    return total / all_reduce_sum(count).clamp(min=1)


def kinds_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of good and kinds over all processes' images.

    Args:
        logits: float (N, K+1); column 0 is good.
        target: float (N,); -1 is a defective image of unknown kind, which is only not good.
    """
    log_probs = logits.log_softmax(dim=1)
    kind = target.to(torch.int64)
    of_kind = -log_probs.gather(1, kind.clamp(min=0)[:, None])[:, 0]
    not_good = -torch.logsumexp(log_probs[:, 1:], dim=1)
    losses = torch.where(kind < 0, not_good, of_kind)
    count = torch.tensor(float(len(losses)), device=logits.device)
    return losses.sum() / all_reduce_sum(count).clamp(min=1)


def coarse_targets(masks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Reduce masks to a (height, width) grid of cells with any defect pixel.

    Returns:
        float32 of 0 and 1, and bool: where the former is known; (N, 1, height, width). A cell
        that is partly void and has no defect pixel is unknown.
    """
    void = masks == VOID
    defect = ((masks > 0) & ~void).to(torch.float32).unsqueeze(1)
    target = F.adaptive_max_pool2d(defect, (height, width))
    has_void = F.adaptive_max_pool2d(void.to(torch.float32).unsqueeze(1), (height, width)) > 0
    return target, (target > 0) | ~has_void
