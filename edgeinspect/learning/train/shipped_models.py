"""Trains the two shipped models on the synthetic strip and chooses their thresholds together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.learning.datasets import ImageArrays, load_strip
from edgeinspect.learning.evaluate import (
    choose_class_thresholds,
    choose_gate_thresholds,
    segmentation_scores,
)
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.line_thresholds import LineGraphs, LineThresholds, measure_line
from edgeinspect.learning.train.networks import ResUNet, SmallGate
from edgeinspect.learning.train.progress import StageProgress, StepReport, ignore_progress
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, TrainingTask
from edgeinspect.learning.train.write_version import (
    VersionWriter,
    describe_fit,
    gate_manifest_scores,
)
from edgeinspect.system import claim_folder

TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 11, 12, 14


def train_shipped_models(
    out: Path,
    *,
    steps: int = 1300,
    pictures: int = 5000,
    test_pictures: int = 3000,
    seed: int = 1,
    version: int = 1,
    threads: int = 2,
    on_progress: StageProgress = ignore_progress,
) -> dict[str, Any]:
    """Train, export and measure both models of the synthetic strip.

    Args:
        out: A model store's folder; `strip-gate/` and `strip-segmenter/` are written there.
        steps: Of each model; the gate has a fifth more, on whole frames.
        pictures: Training images; half as many are rendered for validation.
        test_pictures: Images for the accuracy in the manifests.
        seed: Of the training; the images have fixed seeds.
        version: To write.
        threads: Determines the last bits of the weights.
        on_progress: Called with each frame rendered and each step.

    Returns:
        The accuracy of gate, segmenter and both together.

    Raises:
        OutputError: Another process trains this version, or it cannot be written.
    """
    with claim_folder(out / "strip-gate" / str(version)):
        return _train_into_store(
            out, steps, pictures, test_pictures, seed, version, threads, on_progress
        )


def _train_into_store(
    out: Path,
    steps: int,
    pictures: int,
    test_pictures: int,
    seed: int,
    version: int,
    threads: int,
    on_progress: StageProgress,
) -> dict[str, Any]:
    distributed.set_thread_count(threads)
    train = _render_images(TRAIN_SEED, pictures, on_progress)
    validation = _render_images(VALIDATION_SEED, max(8, pictures // 2), on_progress)
    test = _render_images(TEST_SEED, test_pictures, on_progress)
    samples = train.images[:4]
    whole = max(1, steps // 5)
    recipe = TrainingRecipe(
        steps + whole, crop_width_px=640, whole_ratio=whole / (steps + whole), seed=seed
    )
    torch.manual_seed(seed)
    gate = SmallGate()
    run = _fit_network("gate", gate, GateTask(train), train, recipe, on_progress)
    gate_writer = VersionWriter(gate, "strip-gate", out, ("defect",), run, samples, version)
    # The crop is a multiple of the network's own, as the frame is: padding would show the
    # network an edge that no frame has.
    recipe = TrainingRecipe(steps, crop_width_px=416, positive_share=0.7, seed=seed)
    torch.manual_seed(seed)
    net = ResUNet(len(train.classes), stride=4)
    task = SegmenterTask(train, 4, recipe.loss)
    run = _fit_network("segmenter", net, task, train, recipe, on_progress)
    writer = VersionWriter(net, "strip-segmenter", out, train.classes, run, samples, version)
    # First without thresholds, which are chosen with the graphs that the line runs.
    folders = gate_writer.write(), writer.write()

    graphs = LineGraphs(*folders, net.stride)
    scores, _outputs = graphs.scores(validation, "thresholds", on_progress)
    gate_limits = choose_gate_thresholds(scores.probs, validation.defective)
    class_limits = choose_class_thresholds(scores, validation.defective, train.classes, gate_limits)
    scores, outputs = graphs.scores(test, "test", on_progress)
    accuracy = {
        "gate": gate_manifest_scores(scores.probs, test.defective),
        "segmenter": segmentation_scores(outputs, test, net.stride),
        "line": measure_line(scores, test, LineThresholds(gate_limits, class_limits)),
    }
    note = {"pictures": len(test), "seed": TEST_SEED, "set": "synthetic strip, unseen"}
    line = {"line": accuracy["line"]}
    gate_writer.write(gate_limits, {**note, **accuracy["gate"], **line})
    writer.write(class_limits, {**note, **accuracy["segmenter"], **line})
    return accuracy


def _render_images(seed: int, count: int, on_progress: StageProgress) -> ImageArrays:
    return load_strip(seed, count, progress=lambda done: on_progress("render", done, count))


def _fit_network(
    kind: str,
    net: nn.Module,
    task: TrainingTask,
    train: ImageArrays,
    recipe: TrainingRecipe,
    on_progress: StageProgress,
) -> dict[str, Any]:
    """Train `net` in place and return what its manifest records of the training."""
    started = time.monotonic()
    average = fit(
        net,
        task,
        train,
        recipe,
        progress=StepReport(on_progress, recipe, kind),
    )
    net.load_state_dict(average.state_dict())
    net.cpu().eval()
    return {
        "run": f"{kind}-{len(train)}p-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{len(train)} images, first {train.names[0]}",
        **describe_fit(net, recipe, started),
    }
