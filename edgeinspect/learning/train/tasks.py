"""What a network is trained for: the loss of a batch, and the score on a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import VOID, ImageArrays, downsample_masks, has_class
from edgeinspect.learning.evaluate import classifier_scores, confusion_matrix, iou_and_dice
from edgeinspect.learning.train.losses import binary_loss, coarse_targets, segmentation_loss
from edgeinspect.learning.train.recipe import LossName

_DEFECT_CELL_WEIGHT = 4.0
"""Of a cell with a defect relative to one without, which are far more frequent."""


class TrainingTask(Protocol):
    """Loss and score of one kind of network."""

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Return this process' part of the batch's loss.

        Images are float32 (N, C, h, w) 0 to 255, masks int64 (N, h, w), labels float32 (N,).
        """

    def score(self, net: nn.Module, images: ImageArrays, device: Any) -> float:
        """Return the score on a split; higher is better."""


class GateTask:
    """Classify images as defective or good.

    Raises:
        DataError: All images are defective, or all are good.
    """

    def __init__(self, images: ImageArrays) -> None:
        if images.defective.all() or not images.defective.any():
            raise DataError(
                f"all images are {'defective' if images.defective.all() else 'good'}",
                remedy="A gate needs defective and good ones; --good-class NAME names a good class",
            )

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        logit, coarse = net(images)
        loss = binary_loss(logit, labels)
        # A defective image without a mask does not tell where the defect is.
        has_mask = ((masks > 0) & (masks != VOID)).flatten(1).any(1)
        target, known = coarse_targets(masks, coarse.shape[2], coarse.shape[3])
        known = known & ((labels < 0.5) | has_mask)[:, None, None, None]
        return loss + binary_loss(coarse[known], target[known], _DEFECT_CELL_WEIGHT)

    def score(self, net: nn.Module, images: ImageArrays, device: Any) -> float:
        """Return the area under the ROC curve."""
        probs = np.concatenate(
            [
                torch.sigmoid(net(batch)[0]).float().cpu().numpy()
                for batch in _image_batches(images, device)
            ]
        )
        return classifier_scores(probs, images.defective, ()).auc


class SegmenterTask:
    """Classify every pixel.

    Raises:
        DataError: No mask has a defect.
    """

    def __init__(self, images: ImageArrays, stride: int, kind: LossName) -> None:
        if not has_class(images.masks):
            raise DataError("no mask has a defect", remedy="A segmenter is trained on masks")
        self._stride = stride
        self._kind = kind
        self._weights = _class_weights(images)

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        del labels
        logits, deep, presence = net(images)
        weights = self._weights.to(images.device)
        on_host = masks.cpu().numpy().astype(np.uint8)
        loss = images.new_zeros(())
        for output, weight, stride in ((logits, 1.0, self._stride), (deep, 0.3, 2 * self._stride)):
            target = torch.from_numpy(downsample_masks(on_host, stride))
            target = target.to(images.device, torch.int64)
            h, w = target.shape[1:]
            loss = loss + weight * segmentation_loss(
                output[:, :, :h, :w].float(), target, weights, self._kind
            )
        is_present = torch.stack(
            [(masks == index + 1).flatten(1).any(1) for index in range(presence.shape[1])], dim=1
        )
        return loss + 0.2 * binary_loss(presence.float(), is_present.to(torch.float32))

    def score(self, net: nn.Module, images: ImageArrays, device: Any) -> float:
        """Return the mean IoU at the output stride, background included."""
        classes = len(images.classes)
        matrix = np.zeros((classes + 1, classes + 1), np.int64)
        first = 0
        for batch in _image_batches(images, device):
            maps = net(batch)[0].argmax(dim=1).to(torch.uint8).cpu().numpy()
            targets = downsample_masks(images.masks[first : first + len(maps)], self._stride)
            matrix += confusion_matrix(list(maps), targets, classes)
            first += len(maps)
        present = matrix.sum(0) + matrix.sum(1) > 0
        return float(np.mean(np.array(iou_and_dice(matrix)[0])[present]))


def _image_batches(images: ImageArrays, device: Any, size: int = 8) -> Iterator[Tensor]:
    for first in range(0, len(images), size):
        batch = np.asarray(images.images[first : first + size]).transpose(0, 3, 1, 2)
        yield torch.from_numpy(batch.astype(np.float32)).to(
            device, memory_format=torch.channels_last
        )


def _class_weights(images: ImageArrays) -> Tensor:
    """Weight rarer classes more, by the fourth root of their share of pixels."""
    counts: NDArray[np.int64] = np.zeros(len(images.classes) + 1, np.int64)
    for mask in images.masks:  # one at a time: bincount copies its input as int64
        counts += np.bincount(mask.ravel(), minlength=VOID + 1)[: len(counts)]
    share = counts[1:] / max(1, int(counts[1:].sum()))
    weights = np.ones(len(counts), np.float32)
    weights[1:] = np.clip((share.max() / np.maximum(share, 1e-6)) ** 0.25, 1, 4)
    return torch.from_numpy(weights)
