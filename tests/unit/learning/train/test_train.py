"""Training in small: the networks, the loop, and the graphs that come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

torch = needs.library("torch")

from edgeinspect.errors import DataError
from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.datasets.arrays import ImageArrays, downsample_masks, load_strip
from edgeinspect.learning.evaluate import (
    classifier_scores,
    confusion_matrix,
    iou_and_dice,
    wilson_interval,
)
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train.distributed import set_thread_count
from edgeinspect.learning.train.export import ModelCard, export_graph
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.networks import ResUNet, SmallGate, count_parameters
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask
from edgeinspect.storage.model_store import ModelStore


@pytest.fixture(scope="module")
def strips() -> ImageArrays:
    return load_strip(5, 14, height_px=64, width_px=128)


def card(name: str, classes: tuple[str, ...]) -> ModelCard:
    return ModelCard(name, 3, classes, "run-1", {"suspect": 0.5}, {}, {}, "2026-01-01")


def fit_gate(strips: ImageArrays, recipe: TrainingRecipe, losses: list[float] | None = None) -> Any:
    recorded = [] if losses is None else losses
    return fit(
        SmallGate(),
        GateTask(strips),
        strips,
        recipe,
        progress=lambda _step, loss, _best: recorded.append(loss),
    )


def fit_segmenter(strips: ImageArrays, recipe: TrainingRecipe) -> Any:
    return fit(ResUNet(4), SegmenterTask(strips, 4, recipe.loss), strips, recipe)


def test_parameter_counts_of_the_documentation() -> None:
    assert 250_000 < count_parameters(SmallGate()) < 350_000
    assert 350_000 < count_parameters(ResUNet(4)) < 500_000
    assert count_parameters(ResUNet(3, stride=2, widths=(32, 64, 96, 128))) < 1_100_000


@pytest.mark.parametrize(("stride", "size"), [(2, (50, 70)), (4, (64, 128))])
def test_resunet_output_size_for_every_input_size(stride: int, size: tuple[int, int]) -> None:
    net = ResUNet(2, stride=stride).eval()
    logits, _deep, presence = net(torch.rand(2, 1, *size) * 255)
    assert logits.shape == (2, 3, -(-size[0] // stride), -(-size[1] // stride))
    assert presence.shape == (2, 2)


def test_same_seed_same_weights(strips: ImageArrays) -> None:
    set_thread_count(1)

    def weights() -> bytes:
        torch.manual_seed(1)
        net = fit_segmenter(strips, TrainingRecipe(3, batch=4))
        return b"".join(value.numpy().tobytes() for value in net.state_dict().values())

    assert weights() == weights()


def test_gate_training_and_export_under_the_contract(strips: ImageArrays, tmp_path: Path) -> None:
    losses: list[float] = []
    net = fit_gate(strips, TrainingRecipe(12, batch=6), losses)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    export_graph(net, card("g", ("defect",)), tmp_path, strips.images[:2])
    spec = ModelStore(tmp_path).resolve("g")
    assert (spec.shape.dims, spec.output_stride, spec.id.version) == ((64, 128, 1), 1, 3)
    (prob,) = run_graph(spec.path, strips.images[:1])[0]
    assert prob.shape == (1,)
    assert prob.dtype == np.float32


def test_exported_areas_and_scores_agree_with_the_class_map(
    strips: ImageArrays, tmp_path: Path
) -> None:
    net = fit_segmenter(strips, TrainingRecipe(4, batch=4))
    export_graph(net, card("s", tuple(strips.classes)), tmp_path, strips.images[:2])
    spec = ModelStore(tmp_path).resolve("s")
    for class_map, area_px, score in run_graph(spec.path, strips.images[:4]):
        assert class_map.dtype == np.uint8
        assert class_map.shape == (1, 16, 32)
        for index in range(4):
            cells = int((class_map == index + 1).sum())
            assert area_px[0, index] == cells * 16
            assert (score[0, index] > 0) == (cells > 0)


def test_one_label_only_is_rejected(strips: ImageArrays) -> None:
    good = strips.select(np.flatnonzero(~strips.defective))
    with pytest.raises(DataError, match="all images are good"):
        GateTask(good)
    with pytest.raises(DataError, match="no mask"):
        SegmenterTask(good, 4, "ce+dice")


def test_thin_lines_survive_the_stride() -> None:
    masks = np.zeros((1, 16, 16), np.uint8)
    masks[0, 5, :] = 3
    small = downsample_masks(masks, 4)
    assert (small[0, 1] == 3).all()
    assert small.sum() == 3 * 4


def test_metrics_against_counts_by_hand() -> None:
    label = np.array([[[0, 1], [1, 1]]], np.uint8)
    predicted = [np.array([[0, 1], [0, 1]], np.uint8)]
    iou, dice = iou_and_dice(confusion_matrix(predicted, label, 1))
    assert iou == [0.5, 2 / 3]
    assert dice == [2 / 3, 0.8]
    assert np.array_equal(upsample_class_map(predicted[0], 2, 3, 4)[2], [0, 0, 1, 1])
    probs = np.array([0.9, 0.8, 0.2, 0.1, 0.3])
    scores = classifier_scores(probs, np.array([True, True, True, False, False]), (0.0, 0.5))
    assert scores.auc == pytest.approx(5 / 6)
    assert scores.recall == {0.0: 2 / 3, 0.5: 1.0}
    low, high = wilson_interval(0, 100)
    assert low == 0.0
    assert high == pytest.approx(0.037, abs=0.001)
