"""Fitting: AdamW, one cycle, an average of the weights, and nothing left to chance."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.datasets.pictures import Pictures, shrink_masks
from edgeinspect.errors import DataError
from edgeinspect.train.augment import Augment, augment
from edgeinspect.train.losses import coarse_targets, segmentation_loss
from edgeinspect.train.nets import Gate, ResUNet

Net = TypeVar("Net", bound=nn.Module)
Progress = Callable[[int, float], None]
"""Told the step and its loss."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The same recipe, data, seed and thread count give the same weights."""

    steps: int
    batch: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warm_up_ratio: float = 0.15
    average_decay: float = 0.995
    """Of the exponential average of the weights, which is what is kept."""
    clip_norm: float = 2.0
    crop_height_px: int | None = None
    """Crops of this height; whole pictures when None."""
    crop_width_px: int | None = None
    positive_share: float = 0.5
    """Share of defective pictures in a batch."""
    centred_share: float = 0.8
    """Share of their crops that are centred on a defect."""
    seed: int = 1
    augment: Augment = field(default_factory=Augment)


def fit_gate(net: Gate, pictures: Pictures, recipe: Recipe, progress: Progress) -> Gate:
    """Train a gate; returns the averaged network in eval mode.

    Raises:
        DataError: Only one kind of picture, or the loss became NaN.
    """
    if pictures.defective.all() or not pictures.defective.any():
        raise DataError(
            "all pictures are of one kind", remedy="A gate needs defective and sound ones"
        )

    def loss_of(images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        logit, coarse = net(images)
        wanted = coarse_targets(masks, coarse.shape[2], coarse.shape[3])
        map_loss = F.binary_cross_entropy_with_logits(coarse, wanted, pos_weight=torch.tensor(4.0))
        return F.binary_cross_entropy_with_logits(logit, labels) + map_loss

    return _fit(net, pictures, recipe, progress, loss_of)


def fit_segmenter(net: ResUNet, pictures: Pictures, recipe: Recipe, progress: Progress) -> ResUNet:
    """Train a segmenter; returns the averaged network in eval mode.

    Raises:
        DataError: No mask has a defect, or the loss became NaN.
    """
    if not pictures.masks.any():
        raise DataError("no mask has a defect", remedy="A segmenter learns from masks")
    weights = _class_weights(pictures)

    def loss_of(images: Tensor, masks: Tensor, _labels: Tensor) -> Tensor:
        logits, deep, presence = net(images)
        small = torch.from_numpy(shrink_masks(masks.numpy().astype(np.uint8), net.stride))
        target = small.to(torch.int64)
        loss = segmentation_loss(logits, target, weights)
        half = torch.from_numpy(shrink_masks(masks.numpy().astype(np.uint8), net.stride * 2)).to(
            torch.int64
        )
        h, w = half.shape[1:]
        loss = loss + 0.3 * segmentation_loss(deep[:, :, :h, :w], half, weights)
        there = torch.stack(
            [(masks == index + 1).flatten(1).any(1) for index in range(presence.shape[1])], dim=1
        )
        return loss + 0.2 * F.binary_cross_entropy_with_logits(presence, there.to(torch.float32))

    return _fit(net, pictures, recipe, progress, loss_of)


def _class_weights(pictures: Pictures) -> Tensor:
    """Rarer classes count more, by the fourth root of their share."""
    counts = np.zeros(len(pictures.classes) + 1, np.int64)
    for mask in pictures.masks:  # one at a time: bincount copies its input as int64
        counts += np.bincount(mask.ravel(), minlength=len(counts))
    share = counts[1:] / max(1, counts[1:].sum())
    weights = np.ones(len(counts), np.float32)
    weights[1:] = np.clip((share.max() / np.maximum(share, 1e-6)) ** 0.25, 1, 4)
    return torch.from_numpy(weights)


def _fit(
    net: Net,
    pictures: Pictures,
    recipe: Recipe,
    progress: Progress,
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Net:
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    sampler = _Sampler(pictures, recipe)
    net = net.to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.learning_rate,
        total_steps=recipe.steps + 1,
        pct_start=recipe.warm_up_ratio,
    )
    for step in range(recipe.steps):
        images, masks, labels = sampler.batch()
        images, masks = augment(images, masks, recipe.augment, generator)
        loss = loss_of(images.contiguous(memory_format=torch.channels_last), masks, labels)
        value = float(loss.detach())
        if value != value:
            raise DataError(
                f"the loss became NaN at step {step}",
                remedy="Lower the learning rate, and look for pictures that are all one grey",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        _average(average, net, min(recipe.average_decay, (step + 1) / (step + 10)))
        progress(step + 1, value)
    return average.eval()


def _average(average: nn.Module, net: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


class _Sampler:
    """Draws batches: so many defective, crops that follow rare classes."""

    def __init__(self, pictures: Pictures, recipe: Recipe) -> None:
        self._pictures = pictures
        self._recipe = recipe
        self._rng = np.random.default_rng(recipe.seed)
        self._bad = np.flatnonzero(pictures.defective)
        self._good = np.flatnonzero(~pictures.defective)
        self._weights = self._picture_weights()

    def _picture_weights(self) -> np.ndarray:
        """A picture is drawn by its rarest class, by the root of that class's rarity."""
        present = np.zeros((len(self._bad), len(self._pictures.classes)), np.bool_)
        for row, index in enumerate(self._bad):
            ids = np.unique(self._pictures.masks[index])
            present[row, ids[ids > 0] - 1] = True
        rarity = 1 / np.sqrt(np.maximum(1, present.sum(0)))
        weights = np.maximum((present * rarity).max(1), rarity.min())
        total = weights.sum()
        return weights / total if total else weights

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """float32 (N, C, h, w), int64 (N, h, w), float32 (N,) labels."""
        recipe, rng = self._recipe, self._rng
        images, masks, labels = [], [], []
        for place in range(recipe.batch):
            bad = place < round(recipe.batch * recipe.positive_share) or not len(self._good)
            if bad and len(self._bad):
                index = int(rng.choice(self._bad, p=self._weights))
            else:
                index = int(rng.choice(self._good))
            area = self._crop(index, bad)
            images.append(self._pictures.images[index][area])
            masks.append(self._pictures.masks[index][area])
            labels.append(self._label(index, masks[-1]))
        return (
            torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32)),
            torch.from_numpy(np.stack(masks).astype(np.int64)),
            torch.tensor(labels),
        )

    def _label(self, index: int, mask: np.ndarray) -> float:
        """A crop is defective if it shows some; a whole picture as it was labelled."""
        whole = mask.shape == self._pictures.masks.shape[1:]
        return float(self._pictures.defective[index] if whole else mask.any())

    def _crop(self, index: int, bad: bool) -> tuple[slice, slice]:
        rng, recipe = self._rng, self._recipe
        height, width = self._pictures.masks.shape[1:]
        tall = min(recipe.crop_height_px or height, height)
        wide = min(recipe.crop_width_px or width, width)
        y = int(rng.integers(0, height - tall + 1))
        x = int(rng.integers(0, width - wide + 1))
        if bad and (tall, wide) != (height, width) and rng.random() < recipe.centred_share:
            mask = self._pictures.masks[index]
            present = np.unique(mask)
            present = present[present > 0]
            if len(present):
                ys, xs = np.nonzero(mask == rng.choice(present))
                pick = int(rng.integers(len(ys)))
                y = int(np.clip(ys[pick] - rng.integers(tall // 4, 3 * tall // 4 + 1), 0,
                                height - tall))  # fmt: skip
                x = int(np.clip(xs[pick] - rng.integers(wide // 4, 3 * wide // 4 + 1), 0,
                                width - wide))  # fmt: skip
        return slice(y, y + tall), slice(x, x + wide)


def use_threads(count: int) -> None:
    """Fix the thread count, on which the last bits of the weights depend."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=True)
