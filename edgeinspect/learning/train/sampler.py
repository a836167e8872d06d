"""Draws training batches: a share of defective images, crops weighted to rare classes.

A sample depends on (seed, step, index in the batch) alone. A resumed training therefore
continues with the same images, and processes that share a batch draw together what one
process would draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeinspect.learning.datasets import VOID, ImageArrays, has_class
from edgeinspect.learning.train.augment import augment_image
from edgeinspect.learning.train.recipe import TrainingRecipe


class BatchSampler:
    """Draws batches. Thread-safe: it has no mutable state.

    Args:
        images: The training split.
        recipe: Batch size, crops and augmentation.
        targets: (N,) labels that a network learns; 0 good and 1 defective by default.
    """

    def __init__(
        self, images: ImageArrays, recipe: TrainingRecipe, targets: NDArray[np.int64] | None = None
    ) -> None:
        self._images = images
        self._targets = images.defective.astype(np.int64) if targets is None else targets
        self._recipe = recipe
        self._defective = np.flatnonzero(images.defective)
        self._good = np.flatnonzero(~images.defective)
        self._weights = self._image_weights()

    def _image_weights(self) -> NDArray[np.float64]:
        """Return the probability of each defective image, by the rarity of its rarest class."""
        present = np.zeros((len(self._defective), len(self._images.classes)), np.bool_)
        for row, index in enumerate(self._defective):
            if kind := int(self._images.kinds[index]):
                present[row, kind - 1] = True
            ids = np.unique(self._images.masks[index])
            present[row, ids[(ids > 0) & (ids != VOID)] - 1] = True
        if not present.size:
            return np.full(len(self._defective), 1 / max(1, len(self._defective)))
        rarity = 1 / np.sqrt(np.maximum(1, present.sum(0)))
        weights = np.maximum((present * rarity).max(1), rarity.min())
        total = weights.sum()
        return np.asarray(weights / total if total else weights)

    def batch_size(self, step: int) -> int:
        """Return the number of images of a step."""
        batch = self._recipe.batch
        return batch if step < self._recipe.full_frame_start() else max(2, batch // 2)

    def draw(self, step: int, indices: Iterable[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the samples at some indices of a step's batch.

        Returns:
            Images float32 (N, C, h, w), masks int64 (N, h, w), labels float32 (N,).
        """
        samples = [self._draw_sample(step, index) for index in indices]
        images, masks, labels = zip(*samples, strict=True)
        return (
            torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2)),
            torch.from_numpy(np.stack(masks).astype(np.int64)),
            torch.tensor(labels, dtype=torch.float32),
        )

    def _draw_sample(self, step: int, batch_index: int) -> tuple[Any, Any, float]:
        recipe = self._recipe
        rng = np.random.default_rng((recipe.seed, step, batch_index))
        defective_count = round(self.batch_size(step) * recipe.positive_share)
        is_defective = batch_index < defective_count or not len(self._good)
        if is_defective and len(self._defective):
            index = int(rng.choice(self._defective, p=self._weights))
        else:
            index = int(rng.choice(self._good))
        area = self._choose_crop(index, is_defective, step, rng)
        image, mask = augment_image(
            self._images.images[index][area],
            self._images.masks[index][area],
            recipe.augment,
            rng,
        )
        return image, mask, self._label(index, mask)

    def _label(self, index: int, mask: NDArray[np.uint8]) -> float:
        """Return the label of a crop: that of its image if it shows a defect.

        A whole image, and a crop of an image without a mask, has the image's label.
        """
        is_whole = mask.size == self._images.masks[index].size
        if is_whole or not has_class(self._images.masks[index]):
            return float(self._targets[index])
        return float(self._targets[index]) if has_class(mask) else 0.0

    def _choose_crop(
        self, index: int, is_defective: bool, step: int, rng: np.random.Generator
    ) -> tuple[slice, slice]:
        recipe = self._recipe
        height, width = self._images.masks.shape[1:]
        if step >= recipe.full_frame_start():
            return slice(0, height), slice(0, width)
        h = min(recipe.crop_height_px or height, height)
        w = min(recipe.crop_width_px or width, width)
        y = int(rng.integers(0, height - h + 1))
        x = int(rng.integers(0, width - w + 1))
        is_crop = (h, w) != (height, width)
        if is_defective and is_crop and rng.random() < recipe.centred_share:
            mask = self._images.masks[index]
            present = np.unique(mask)
            present = present[(present > 0) & (present != VOID)]
            if len(present):
                ys, xs = np.nonzero(mask == rng.choice(present))
                pick = int(rng.integers(len(ys)))
                y = int(np.clip(ys[pick] - rng.integers(h // 4, 3 * h // 4 + 1), 0, height - h))
                x = int(np.clip(xs[pick] - rng.integers(w // 4, 3 * w // 4 + 1), 0, width - w))
        return slice(y, y + h), slice(x, x + w)
