"""The two shipped models: trained on the synthetic strip, their limits chosen together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.learning.datasets.arrays import Pictures, load_strip
from edgeinspect.learning.evaluate.metrics.scores import segmenter_figures
from edgeinspect.learning.evaluate.metrics.thresholds import (
    class_limits,
    evidence,
    gate_limits,
    line_accuracy,
)
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.networks import Gate, ResUNet, parameter_count
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, Task
from edgeinspect.learning.train.write_version import (
    Report,
    gate_accuracy,
    gate_probs,
    graph_outputs,
    write,
)

TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 11, 12, 14


def train_strip(
    out: Path,
    *,
    steps: int = 1300,
    pictures: int = 5000,
    test_pictures: int = 3000,
    seed: int = 1,
    version: int = 1,
    threads: int = 2,
    report: Report = lambda stage, done, total, loss: None,
) -> dict[str, Any]:
    """Train, export and measure both models of the synthetic strip.

    Args:
        out: A model store's folder; `strip-gate/` and `strip-segmenter/` go there.
        steps: Of each model; the gate takes a fifth more, on whole frames.
        pictures: To train on; half as many choose the thresholds.
        test_pictures: Unseen, for the figures in the manifests.
        seed: Of the training; the pictures have seeds of their own.
        version: To write.
        threads: To compute with; the last bits depend on it.
        report: Told how far it is.

    Returns:
        The figures.
    """
    distributed.use_threads(threads)
    train = _rendered(TRAIN_SEED, pictures, report)
    validation = _rendered(VALIDATION_SEED, max(8, pictures // 2), report)
    test = _rendered(TEST_SEED, test_pictures, report)
    whole = max(1, steps // 5)
    recipe = Recipe(
        steps + whole, crop_width_px=640, whole_ratio=whole / (steps + whole), seed=seed
    )
    torch.manual_seed(seed)
    gate_net = Gate()
    gate_run = _fitted("gate", gate_net, GateTask(train), train, recipe, report)
    # The crop is a multiple of the network's own, as the frame is: one that needs padding
    # would teach it an edge that no frame has.
    recipe = Recipe(steps, crop_width_px=416, positive_share=0.7, seed=seed)
    torch.manual_seed(seed)
    net = ResUNet(len(train.classes), stride=4)
    run = _fitted("segmenter", net, SegmenterTask(train, 4, recipe.loss), train, recipe, report)
    # First with no thresholds, to choose them on the graphs that the line will run.
    samples = train.images[:4]
    names = ("strip-gate", "strip-segmenter")
    gate = write(gate_net, names[0], out, ("defect",), gate_run, {}, {}, samples, version)
    segmenter = write(net, names[1], out, train.classes, run, {}, {}, samples, version)
    probs = gate_probs(gate, validation, "thresholds", report)
    maps = graph_outputs(segmenter, validation, "thresholds", report)
    gate_rule = gate_limits(probs, validation.defective)
    class_rule = class_limits(evidence(probs, maps, net.stride), validation, gate_rule)
    probs = gate_probs(gate, test, "test", report)
    maps = graph_outputs(segmenter, test, "test", report)
    figures = gate_accuracy(probs, test.defective)
    line = line_accuracy(evidence(probs, maps, net.stride), test, gate_rule, class_rule)
    areas = segmenter_figures(maps, test, net.stride)
    note = {"pictures": len(test), "seed": TEST_SEED, "set": "synthetic strip, unseen"}
    write(
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
    write(
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


def _rendered(seed: int, count: int, report: Report) -> Pictures:
    return load_strip(seed, count, progress=lambda done: report("render", done, count, 0.0))


def _fitted(
    kind: str, net: nn.Module, task: Task, train: Pictures, recipe: Recipe, report: Report
) -> dict[str, Any]:
    began = time.monotonic()
    average = fit(
        net,
        task,
        train,
        recipe,
        progress=lambda step, loss, best: report(kind, step, recipe.steps, loss),
    )
    net.load_state_dict(average.state_dict())
    net.cpu().eval()
    return run_note(kind, net, train, recipe, (time.monotonic() - began) / 60)


def run_note(
    kind: str, net: nn.Module, train: Pictures, recipe: Recipe, minutes: float
) -> dict[str, Any]:
    """What a manifest says of a training."""
    return {
        "run": f"{kind}-{len(train)}p-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{len(train)} pictures, first {train.names[0]}",
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": parameter_count(net),
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
