"""The two shipped models: trained on the synthetic strip, their limits chosen together."""

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
    line_metrics,
    segmentation_scores,
    summarise_outputs,
)
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.networks import ResUNet, SmallGate, count_parameters
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, TrainingTask
from edgeinspect.learning.train.write_version import (
    StageProgress,
    export_version,
    gate_manifest_scores,
    run_exported_graph,
    run_gate,
)

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
    on_progress: StageProgress = lambda stage, done, total, loss: None,
) -> dict[str, Any]:
    """Train, export and measure both models of the synthetic strip.

    Args:
        out: A model store's folder; `strip-gate/` and `strip-segmenter/` go there.
        steps: Of each model; the gate takes a fifth more, on whole frames.
        images: To train on; half as many choose the thresholds.
        test_pictures: Unseen, for the figures in the manifests.
        seed: Of the training; the images have seeds of their own.
        version: To write.
        threads: To compute with; the last bits depend on it.
        report: Told how far it is.

    Returns:
        The figures.
    """
    distributed.set_thread_count(threads)
    train = _render_images(TRAIN_SEED, pictures, on_progress)
    validation = _render_images(VALIDATION_SEED, max(8, pictures // 2), on_progress)
    test = _render_images(TEST_SEED, test_pictures, on_progress)
    whole = max(1, steps // 5)
    recipe = Recipe(
        steps + whole, crop_width_px=640, whole_ratio=whole / (steps + whole), seed=seed
    )
    torch.manual_seed(seed)
    gate_net = SmallGate()
    gate_run = _fit_network("gate", gate_net, GateTask(train), train, recipe, on_progress)
    # The crop is a multiple of the network's own, as the frame is: one that needs padding
    # would teach it an edge that no frame has.
    recipe = Recipe(steps, crop_width_px=416, positive_share=0.7, seed=seed)
    torch.manual_seed(seed)
    net = ResUNet(len(train.classes), stride=4)
    run = _fit_network(
        "segmenter", net, SegmenterTask(train, 4, recipe.loss), train, recipe, on_progress
    )
    # First with no thresholds, to choose them on the graphs that the line will run.
    samples = train.images[:4]
    names = ("strip-gate", "strip-segmenter")
    gate = export_version(gate_net, names[0], out, ("defect",), gate_run, {}, {}, samples, version)
    segmenter = export_version(net, names[1], out, train.classes, run, {}, {}, samples, version)
    probs = run_gate(gate, validation, "thresholds", on_progress)
    maps = run_exported_graph(segmenter, validation, "thresholds", on_progress)
    gate_rule = choose_gate_thresholds(probs, validation.defective)
    class_rule = choose_class_thresholds(
        summarise_outputs(probs, maps, net.stride), validation.defective, train.classes, gate_rule
    )
    probs = run_gate(gate, test, "test", on_progress)
    maps = run_exported_graph(segmenter, test, "test", on_progress)
    figures = gate_manifest_scores(probs, test.defective)
    scores = summarise_outputs(probs, maps, net.stride)
    line = line_metrics(scores, test.defective, gate_rule, class_rule)
    areas = segmentation_scores(maps, test, net.stride)
    note = {"pictures": len(test), "seed": TEST_SEED, "set": "synthetic strip, unseen"}
    export_version(
        gate_net,
        names[0],
        out,
        ("defect",),
        gate_run,
        gate_rule,
        {**note, **figures, "line": line},
        samples,
        version,
    )
    export_version(
        net,
        names[1],
        out,
        train.classes,
        run,
        class_rule,
        {**note, **areas, "line": line},
        samples,
        version,
    )
    return {"gate": figures, "segmenter": areas, "line": line}


def _render_images(seed: int, count: int, on_progress: StageProgress) -> ImageArrays:
    return load_strip(seed, count, progress=lambda done: on_progress("render", done, count, 0.0))


def _fit_network(
    kind: str,
    net: nn.Module,
    task: TrainingTask,
    train: ImageArrays,
    recipe: Recipe,
    on_progress: StageProgress,
) -> dict[str, Any]:
    began = time.monotonic()
    average = fit(
        net,
        task,
        train,
        recipe,
        progress=lambda step, loss, best: on_progress(kind, step, recipe.steps, loss),
    )
    net.load_state_dict(average.state_dict())
    net.cpu().eval()
    return describe_run(kind, net, train, recipe, (time.monotonic() - began) / 60)


def describe_run(
    kind: str, net: nn.Module, train: ImageArrays, recipe: Recipe, minutes: float
) -> dict[str, Any]:
    """What a manifest says of a training."""
    return {
        "run": f"{kind}-{len(train)}p-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{len(train)} pictures, first {train.names[0]}",
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": count_parameters(net),
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
