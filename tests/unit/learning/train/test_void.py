"""Void (unlabelled) pixels do not affect losses, labels or metrics."""

from __future__ import annotations

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.datasets.dataset import VOID
from edgeinspect.learning.evaluate.image_source import class_id_table
from edgeinspect.learning.evaluate.metrics.segmentation import confusion_matrix
from edgeinspect.learning.train.losses import coarse_targets, segmentation_loss
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.sampler import BatchSampler
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask


@pytest.mark.parametrize("kind", ["ce+dice", "ce+tversky", "ce+lovasz", "focal+dice"])
def test_a_void_pixel_has_no_gradient_and_changes_no_loss(kind: str) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    target = torch.randint(0, 3, (2, 6, 6))
    target[:, :2] = VOID
    weights = torch.tensor([1.0, 2.0, 3.0])
    loss = segmentation_loss(logits, target, weights, kind)  # type: ignore[arg-type]
    loss.backward()
    assert torch.isfinite(loss)
    assert not logits.grad[:, :, :2].any()
    assert logits.grad[:, :, 2:].any()
    other = logits.detach().clone()
    other[:, :, :2] = 7.0
    assert torch.allclose(segmentation_loss(other, target, weights, kind), loss)  # type: ignore[arg-type]
    kept = segmentation_loss(logits[:, :, 2:], target[:, 2:], weights, kind)  # type: ignore[arg-type]
    assert torch.allclose(kept, loss)


def test_a_coarse_cell_of_void_is_unknown() -> None:
    masks = torch.zeros(1, 4, 8, dtype=torch.int64)
    masks[0, 0, 0] = VOID
    masks[0, 0, 4:6] = torch.tensor([VOID, 1])
    target, known = coarse_targets(masks, 2, 4)
    assert target[0, 0].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert known[0, 0].tolist() == [[False, True, True, True], [True] * 4]


def make_images() -> ImageArrays:
    masks = np.zeros((4, 32, 32), np.uint8)
    masks[0, 8:20, 8:20] = VOID
    masks[0, 10:18, 10:18] = 1
    masks[1, :8] = VOID
    images = np.random.default_rng(1).integers(0, 255, (4, 32, 32, 1), np.uint8)
    defective = np.array([True, False, False, False])
    return ImageArrays(images, masks, defective, [f"p{i}" for i in range(4)], ("pit",))


def test_crops_are_not_defective_by_void() -> None:
    recipe = TrainingRecipe(50, crop_height_px=8, crop_width_px=8, batch=4)
    sampler = BatchSampler(make_images(), recipe)
    for step in range(30):
        _images, masks, labels = sampler.draw(step, range(4))
        has_defect = ((masks > 0) & (masks != VOID)).flatten(1).any(1)
        assert labels.bool().tolist() == has_defect.tolist()


def test_both_tasks_train_on_void() -> None:
    from edgeinspect.learning.train import architectures

    part = make_images()
    images = torch.from_numpy(part.images.transpose(0, 3, 1, 2).astype(np.float32))
    masks = torch.from_numpy(part.masks.astype(np.int64))
    labels = torch.tensor(part.defective, dtype=torch.float32)
    gate = architectures.build_gate("small", channels=1, weights=None, ignore_black=False)
    segmenter = architectures.build_segmenter("resunet-0.3m", 1, channels=1, stride=2, weights=None)
    assert torch.isfinite(GateTask(part).loss(gate, images, masks, labels))
    task = SegmenterTask(part, 2, "ce+dice")
    assert torch.isfinite(task.loss(segmenter, images, masks, labels))
    assert 0 <= task.score(segmenter, part, "cpu") <= 1


def test_metrics_ignore_void() -> None:
    true = np.array([[[1, VOID, VOID, 0]]], np.uint8)
    predicted = np.array([[1, 1, 0, 0]], np.uint8)
    assert confusion_matrix([predicted], true, 1).tolist() == [[1, 0], [0, 1]]


def test_void_stays_void_with_model_classes() -> None:
    assert class_id_table(["pit"], ["pit"])[VOID] == VOID
    assert class_id_table(["a", "b"], ["defect"])[VOID] == VOID
