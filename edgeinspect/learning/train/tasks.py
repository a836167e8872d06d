"""What a network is trained for: the loss of a batch, and the score on a split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import VOID, ImageArrays, downsample_masks, has_class
from edgeinspect.learning.evaluate import (
    classifier_scores,
    confusion_matrix,
    iou_and_dice,
    mean_recall,
)
from edgeinspect.learning.train.frozen_head import gate_targets
from edgeinspect.learning.train.losses import (
    binary_loss,
    coarse_targets,
    kinds_loss,
    segmentation_loss,
)
from edgeinspect.learning.train.recipe import LossName

_DEFECT_CELL_WEIGHT = 4.0
"""Of a cell with a defect relative to one without, which are far more frequent."""


class TrainingTask(Protocol):
    """Loss and score of one kind of network."""

    def targets(self, images: ImageArrays) -> NDArray[np.int64]:
        """Return the label of each image that `loss` gets, (N,)."""

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        """Return this process' part of the batch's loss.

        Images are float32 (N, C, h, w) 0 to 255, masks int64 (N, h, w), labels float32 (N,), as
        `targets` returns them.
        """

    def score(self, net: nn.Module, images: ImageArrays, device: Any) -> float:
        """Return the score on a split; higher is better."""


class GateTask:
    """Classify images as defective or good, or good images and kinds of defects.

    Raises:
        DataError: All images are defective (without kinds), or all are good.
    """

    def __init__(self, images: ImageArrays, kinds: int = 0) -> None:
        self._kinds = kinds
        if kinds and len(set(gate_targets(images, kinds))) > 1:
            return
        if images.defective.all() or not images.defective.any():
            raise DataError(
                f"all images are {'defective' if images.defective.all() else 'good'}",
                remedy="A gate needs defective and good ones; --good-class NAME names a good class",
            )

    def targets(self, images: ImageArrays) -> NDArray[np.int64]:
        """Return 0 for good, 1 for defective; with kinds as `gate_targets`."""
        return gate_targets(images, self._kinds)

    def loss(self, net: nn.Module, images: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
        logit, coarse = net(images)
        loss = kinds_loss(logit, labels) if self._kinds else binary_loss(logit, labels)
        # A defective image without a mask does not tell where the defect is.
        has_mask = ((masks > 0) & (masks != VOID)).flatten(1).any(1)
        if not has_mask.any() and bool((labels != 0).any()):
            return loss + 0 * coarse.sum()
        target, known = coarse_targets(masks, coarse.shape[2], coarse.shape[3])
        known = known & ((labels == 0) | has_mask)[:, None, None, None]
        return loss + binary_loss(coarse[known], target[known], _DEFECT_CELL_WEIGHT)

    def score(self, net: nn.Module, images: ImageArrays, device: Any) -> float:
        """Return the area under the ROC curve, or with kinds the balanced accuracy.

        Less a hundredth of the balanced loss, which decides between equal ones.
        """
        with torch.no_grad():
            logits = torch.cat([net(batch)[0] for batch in _image_batches(images, device)]).cpu()
        targets = torch.from_numpy(gate_targets(images, self._kinds))
        if not self._kinds:
            auc = classifier_scores(
                torch.sigmoid(logits).double().numpy(), images.defective, ()
            ).auc
            logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
            return auc - 0.01 * _balanced_loss(logits, targets)
        known = targets >= 0
        logits, targets = logits[known], targets[known]
        found = targets[logits.argmax(dim=1) == targets]
        counts = (each.bincount(minlength=logits.shape[1]).numpy() for each in (found, targets))
        return (mean_recall(*counts) or 0.0) - 0.01 * _balanced_loss(logits, targets)


def _balanced_loss(logits: Tensor, targets: Tensor) -> float:
    losses = F.cross_entropy(logits.double(), targets, reduction="none")
    return float(np.mean([float(losses[targets == each].mean()) for each in targets.unique()]))


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

    def targets(self, images: ImageArrays) -> NDArray[np.int64]:
        """Return 0 for good, 1 for defective."""
        return images.defective.astype(np.int64)

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
