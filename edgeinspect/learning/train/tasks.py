"""What a network is trained for: the loss of a batch, and how good it is on a split."""

from __future__ import annotations

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
"""Of a cell with a defect against one without; there are far fewer."""


class TrainingTask(Protocol):
    """One kind of network's purpose."""

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """This process' part of the batch's loss; images float32 (N, C, h, w) 0 to 255."""

    def score(self, net: nn.Module, pictures: ImageArrays, device: Any) -> float:
        """How good it is; higher is better."""


class GateTask:
    """Defective or not. Raises DataError when there is only one kind of image."""

    def __init__(self, pictures: ImageArrays) -> None:
        if pictures.defective.all() or not pictures.defective.any():
            raise DataError(
                f"all pictures are {'defective' if pictures.defective.all() else 'good'}",
                remedy="A gate needs defective and good ones; which classes are good is said by "
                "--good-class NAME",
            )

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        logit, coarse = net(images)
        loss = binary_loss(logit, labels)
        # An image that is defective and has no mask cannot say where.
        drawn = ((masks > 0) & (masks != VOID)).flatten(1).any(1)
        wanted, known = coarse_targets(masks, coarse.shape[2], coarse.shape[3])
        known = known & ((labels < 0.5) | drawn)[:, None, None, None]
        return loss + binary_loss(coarse[known], wanted[known], _DEFECT_CELL_WEIGHT)

    def score(self, net: nn.Module, pictures: ImageArrays, device: Any) -> float:
        """Area under the ROC curve."""
        probs = np.concatenate(
            [
                torch.sigmoid(net(images)[0]).float().cpu().numpy()
                for images in _image_batches(pictures, device)
            ]
        )
        return classifier_scores(probs, pictures.defective, ()).auc


class SegmenterTask:
    """Where, and of which class. Raises DataError when no mask has a defect."""

    def __init__(self, pictures: ImageArrays, stride: int, kind: LossName) -> None:
        if not has_class(pictures.masks):
            raise DataError("no mask has a defect", remedy="A segmenter learns from masks")
        self._stride = stride
        self._kind = kind
        self._weights = _class_weights(pictures)

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        del labels
        logits, deep, presence = net(images)
        weights = self._weights.to(images.device)
        on_host = masks.cpu().numpy().astype(np.uint8)
        loss = images.new_zeros(())
        for part, share, stride in ((logits, 1.0, self._stride), (deep, 0.3, 2 * self._stride)):
            small = torch.from_numpy(downsample_masks(on_host, stride)).to(
                images.device, torch.int64
            )
            h, w = small.shape[1:]
            loss = loss + share * segmentation_loss(
                part[:, :, :h, :w].float(), small, weights, self._kind
            )
        there = torch.stack(
            [(masks == index + 1).flatten(1).any(1) for index in range(presence.shape[1])], dim=1
        )
        return loss + 0.2 * binary_loss(presence.float(), there.to(torch.float32))

    def score(self, net: nn.Module, pictures: ImageArrays, device: Any) -> float:
        """Mean IoU at the output stride, background too."""
        classes = len(pictures.classes)
        matrix = np.zeros((classes + 1, classes + 1), np.int64)
        at = 0
        for images in _image_batches(pictures, device):
            maps = net(images)[0].argmax(dim=1).to(torch.uint8).cpu().numpy()
            targets = downsample_masks(pictures.masks[at : at + len(maps)], self._stride)
            matrix += confusion_matrix(list(maps), targets, classes)
            at += len(maps)
        present = matrix.sum(0) + matrix.sum(1) > 0
        return float(np.mean(np.array(iou_and_dice(matrix)[0])[present]))


def _image_batches(pictures: ImageArrays, device: Any, size: int = 8) -> Any:
    for at in range(0, len(pictures), size):
        images = np.asarray(pictures.images[at : at + size]).transpose(0, 3, 1, 2)
        yield torch.from_numpy(images.astype(np.float32)).to(
            device, memory_format=torch.channels_last
        )


def _class_weights(pictures: ImageArrays) -> Tensor:
    """Rarer classes count more, by the fourth root of their share."""
    counts: NDArray[np.int64] = np.zeros(len(pictures.classes) + 1, np.int64)
    for mask in pictures.masks:  # one at a time: bincount copies its input as int64
        counts += np.bincount(mask.ravel(), minlength=VOID + 1)[: len(counts)]
    share = counts[1:] / max(1, counts[1:].sum())
    weights = np.ones(len(counts), np.float32)
    weights[1:] = np.clip((share.max() / np.maximum(share, 1e-6)) ** 0.25, 1, 4)
    return torch.from_numpy(weights)
