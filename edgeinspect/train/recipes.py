"""Whole trainings: data in, a checked model with honest figures in a store out."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeinspect.datasets.pictures import Pictures, folder_classes, load_folder, load_strip
from edgeinspect.evaluate.figures import gate_figures, segmenter_figures
from edgeinspect.evaluate.graphs import run_graph
from edgeinspect.evaluate.thresholds import (
    LEAST_AREA_PX,
    class_limits,
    evidence,
    gate_limits,
    line_accuracy,
)
from edgeinspect.train.augment import Augment
from edgeinspect.train.export import Card, export
from edgeinspect.train.fit import Recipe, fit_gate, fit_segmenter, use_threads
from edgeinspect.train.nets import Gate, ResUNet, parameter_count

Report = Callable[[str, int, int, float], None]
"""Told (stage, done, total, loss or 0)."""

STRIP_TRAIN_SEED, STRIP_VALIDATION_SEED, STRIP_TEST_SEED = 11, 12, 14


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

    Returns:
        The figures.
    """
    use_threads(threads)
    train = _rendered("render", STRIP_TRAIN_SEED, pictures, report)
    validation = _rendered("render", STRIP_VALIDATION_SEED, max(8, pictures // 2), report)
    test = _rendered("render", STRIP_TEST_SEED, test_pictures, report)
    gate_run, gate_net = _train_gate(
        Gate(), train, Recipe(steps, crop_width_px=640, seed=seed), report
    )
    run, net = _train_segmenter(
        train,
        # A multiple of the network's own, as the frame is: a crop that needs padding would
        # teach it an edge that no frame has.
        Recipe(steps, crop_width_px=416, positive_share=0.7, seed=seed),
        ResUNet(len(train.classes), stride=4),
        report,
    )
    # First with no thresholds, to choose them on the graphs that the line will run.
    gate = _export(gate_net, "strip-gate", version, ("defect",), gate_run, {}, {}, out, train)
    segmenter = _export(net, "strip-segmenter", version, train.classes, run, {}, {}, out, train)
    probs, maps = _both(gate, segmenter, validation, "thresholds", report)
    gate_rule = gate_limits(probs, validation.defective)
    class_rule = class_limits(evidence(probs, maps, net.stride), validation, gate_rule)
    probs, maps = _both(gate, segmenter, test, "test", report)
    figures = _gate_accuracy(probs, test.defective)
    line = line_accuracy(evidence(probs, maps, net.stride), test, gate_rule, class_rule)
    areas = segmenter_figures(maps, test, 4)
    note = {"pictures": len(test), "seed": STRIP_TEST_SEED, "set": "synthetic strip, unseen"}
    _export(gate_net, "strip-gate", version, ("defect",), gate_run, gate_rule,
            {**note, **figures, "line": line}, out, train)  # fmt: skip
    _export(net, "strip-segmenter", version, train.classes, run, class_rule,
            {**note, **areas, "line": line}, out, train)  # fmt: skip
    return {"gate": figures, "segmenter": areas, "line": line}


def train_folder_gate(
    data: Path,
    out: Path,
    *,
    name: str,
    size: tuple[int, int],
    steps: int,
    widths: tuple[int, ...] = (16, 32, 64, 96, 128),
    seed: int = 1,
    threads: int = 2,
    report: Report = lambda stage, done, total, loss: None,
) -> dict[str, Any]:
    """Train a gate on an indexed folder; figures on its test split, from the ONNX graph."""
    use_threads(threads)
    classes = folder_classes(data)
    height, width = size
    train, validation, test = (
        load_folder(data, split, classes, height_px=height, width_px=width)
        for split in ("train", "val", "test")
    )
    rules = Augment(transpose=height == width, contrast=0.4, noise=4)
    # Crops show a small defect large; with no room for them the frame itself is the crop.
    crop = min(192, height, width)
    run, net = _train_gate(
        Gate(widths=widths, ignore_black=True),
        train,
        Recipe(steps, crop_height_px=crop, crop_width_px=crop, seed=seed, augment=rules),
        report,
    )
    store = _export(net, name, 1, ("defect",), run, {}, {}, out, train)
    limits = gate_limits(_probs(store, validation, "thresholds", report), validation.defective)
    figures = _gate_accuracy(_probs(store, test, "test", report), test.defective)
    note = {"pictures": len(test), "set": f"{data.name}, test split"}
    _export(net, name, 1, ("defect",), run, limits, {**note, **figures}, out, train)
    return figures


def train_folder_segmenter(
    data: Path,
    out: Path,
    *,
    name: str,
    size: tuple[int, int],
    steps: int,
    stride: int = 2,
    widths: tuple[int, ...] = (32, 64, 96, 128),
    seed: int = 1,
    threads: int = 2,
    report: Report = lambda stage, done, total, loss: None,
) -> dict[str, Any]:
    """Train a segmenter on an indexed folder; figures on its test split, from the graph."""
    use_threads(threads)
    classes = folder_classes(data)
    height, width = size
    train, test = (
        load_folder(data, split, classes, height_px=height, width_px=width)
        for split in ("train", "test")
    )
    crop = min(128, height, width)
    recipe = Recipe(
        steps,
        learning_rate=4e-3,
        crop_height_px=crop,
        crop_width_px=crop,
        positive_share=0.9,
        seed=seed,
        augment=Augment(contrast=0.35, noise=5),
    )
    run, net = _train_segmenter(
        train, recipe, ResUNet(len(classes), stride=stride, widths=widths), report
    )
    limits = {c: {"score": 0.5, "area_px": LEAST_AREA_PX} for c in classes}
    folder = _export(net, name, 1, classes, run, limits, {}, out, train)
    outputs = run_graph(
        folder / "model.onnx", test.images, lambda done: report("test", done, len(test), 0)
    )
    figures = segmenter_figures(outputs, test, stride)
    note = {"pictures": len(test), "set": f"{data.name}, test split"}
    _export(net, name, 1, classes, run, limits, {**note, **figures}, out, train)
    return figures


# -- pieces -------------------------------------------------------------------------------


def _rendered(stage: str, seed: int, count: int, report: Report) -> Pictures:
    return load_strip(seed, count, progress=lambda done: report(stage, done, count, 0.0))


def _train_gate(
    net: Gate, train: Pictures, recipe: Recipe, report: Report
) -> tuple[dict[str, Any], Gate]:
    """Crops first, where a defect is a large share of what is seen, then whole frames.

    The second part is what sets the averages and maxima of the head to the frame's size.
    """
    torch.manual_seed(recipe.seed)
    began = time.monotonic()
    whole = max(1, recipe.steps // 5)
    total = recipe.steps + whole
    fitted = fit_gate(net, train, recipe, lambda step, loss: report("gate", step, total, loss))
    last = replace(
        recipe,
        steps=whole,
        batch=max(2, recipe.batch // 2),
        learning_rate=recipe.learning_rate / 3,
        crop_height_px=None,
        crop_width_px=None,
        seed=recipe.seed + 1,
    )
    fitted = fit_gate(
        fitted, train, last, lambda step, loss: report("gate", recipe.steps + step, total, loss)
    )
    return _run_note("gate", fitted, train, replace(recipe, steps=total), began), fitted


def _train_segmenter(
    train: Pictures, recipe: Recipe, net: ResUNet, report: Report
) -> tuple[dict[str, Any], ResUNet]:
    torch.manual_seed(recipe.seed)
    began = time.monotonic()
    fitted = fit_segmenter(
        net, train, recipe, lambda step, loss: report("segmenter", step, recipe.steps, loss)
    )
    return _run_note("segmenter", fitted, train, recipe, began), fitted


def _run_note(
    kind: str, net: torch.nn.Module, train: Pictures, recipe: Recipe, began: float
) -> dict[str, Any]:
    return {
        "run": f"{kind}-{len(train)}p-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{len(train)} pictures, first {train.names[0]}",
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": parameter_count(net),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _export(
    net: Gate | ResUNet,
    name: str,
    version: int,
    classes: Sequence[str],
    run: dict[str, Any],
    thresholds: dict[str, Any],
    accuracy: dict[str, Any],
    out: Path,
    train: Pictures,
) -> Path:
    card = Card(
        name=name,
        version=version,
        classes=classes,
        run=str(run["run"]),
        thresholds=thresholds,
        training=run,
        accuracy=accuracy,
        created=datetime.date.today().isoformat(),
    )
    return export(net, card, out, train.images[:4])


def _probs(folder: Path, pictures: Pictures, stage: str, report: Report) -> NDArray[np.float64]:
    outputs = run_graph(
        folder / "model.onnx", pictures.images, lambda done: report(stage, done, len(pictures), 0)
    )
    return np.array([float(output[0][0]) for output in outputs])


def _both(
    gate: Path, segmenter: Path, pictures: Pictures, stage: str, report: Report
) -> tuple[NDArray[np.float64], list[list[NDArray[Any]]]]:
    probs = _probs(gate, pictures, stage, report)
    maps = run_graph(
        segmenter / "model.onnx",
        pictures.images,
        lambda done: report(stage, done, len(pictures), 0),
    )
    return probs, maps


def _gate_accuracy(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> dict[str, Any]:
    figures = gate_figures(probs, defective, (0.01, 0.05))
    return {
        "auc": round(figures.auc, 4),
        "auc_interval": [round(v, 4) for v in figures.auc_interval],
        **{
            f"recall_at_{rate:.0%}_false_rejects": {
                "recall": round(figures.recall[rate], 4),
                "interval": [round(v, 4) for v in figures.interval[rate]],
            }
            for rate in figures.recall
        },
    }
