"""From a trained network to a version in a store: graph, thresholds, figures."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate import (
    MIN_AREA_PX,
    choose_gate_thresholds,
    classifier_scores,
    segmentation_scores,
)
from edgeinspect.learning.onnx_graphs.manifest import ModelCard
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train.export import export_graph

StageProgress = Callable[[str, int, int, float], None]
"""Told (stage, done, total, loss or 0)."""


def export_gate(
    net: nn.Module,
    name: str,
    out: Path,
    run: Mapping[str, Any],
    samples: NDArray[np.uint8],
    validation: ImageArrays,
    test: ImageArrays | None,
    on_progress: StageProgress,
    version: int = 1,
) -> dict[str, Any]:
    """Export a gate, choose its thresholds on `validation`, measure it on `test`.

    Returns:
        The figures in its manifest, from the graph that was written.
    """
    folder = export_version(net, name, out, ("defect",), run, {}, {}, samples, version)
    probs = run_gate(folder, validation, "thresholds", on_progress)
    limits = choose_gate_thresholds(probs, validation.defective)
    figures: dict[str, Any] = {}
    if test is not None:
        found = run_gate(folder, test, "test", on_progress)
        figures = {
            "pictures": len(test),
            "set": "test split",
            **gate_manifest_scores(found, test.defective),
        }
    export_version(net, name, out, ("defect",), run, limits, figures, samples, version)
    return figures


def export_segmenter(
    net: nn.Module,
    name: str,
    out: Path,
    run: Mapping[str, Any],
    samples: NDArray[np.uint8],
    classes: Sequence[str],
    test: ImageArrays | None,
    on_progress: StageProgress,
    version: int = 1,
) -> dict[str, Any]:
    """Export a segmenter and measure it on `test`; limits are the plain ones.

    Returns:
        The figures in its manifest, from the graph that was written.
    """
    limits = {c: {"score": 0.5, "area_px": MIN_AREA_PX} for c in classes}
    folder = export_version(net, name, out, classes, run, limits, {}, samples, version)
    figures: dict[str, Any] = {}
    if test is not None:
        outputs = run_exported_graph(folder, test, "test", on_progress)
        figures = {
            "pictures": len(test),
            "set": "test split",
            **segmentation_scores(outputs, test, int(net.stride)),
        }
        export_version(net, name, out, classes, run, limits, figures, samples, version)
    return figures


def export_version(
    net: nn.Module,
    name: str,
    out: Path,
    classes: Sequence[str],
    run: Mapping[str, Any],
    thresholds: Mapping[str, Any],
    accuracy: Mapping[str, Any],
    samples: NDArray[np.uint8],
    version: int = 1,
) -> Path:
    """Export under the model contract; returns the version's folder."""
    card = ModelCard(
        name=name,
        version=version,
        classes=classes,
        run=str(run["run"]),
        thresholds=thresholds,
        training=run,
        accuracy=accuracy,
        created=datetime.date.today().isoformat(),
    )
    return export_graph(net, card, out, samples)


def run_gate(
    folder: Path, images: ImageArrays, stage: str, on_progress: StageProgress
) -> NDArray[np.float64]:
    """`defect_prob` of each image, (N,)."""
    outputs = run_exported_graph(folder, images, stage, on_progress)
    return np.array([float(output[0][0]) for output in outputs])


def run_exported_graph(
    folder: Path, images: ImageArrays, stage: str, on_progress: StageProgress
) -> list[list[NDArray[Any]]]:
    """What the written graph gives on each image."""
    return run_graph(
        folder / "model.onnx",
        images.images,
        lambda done: on_progress(stage, done, len(images), 0.0),
    )


def gate_manifest_scores(
    probs: NDArray[np.float64], defective: NDArray[np.bool_]
) -> dict[str, Any]:
    """What a manifest says of a gate."""
    figures = classifier_scores(probs, defective, (0.01, 0.05))
    return {
        "auc": round(figures.auc, 4),
        "auc_interval": [round(v, 4) for v in figures.auc_interval],
        **{
            f"recall_at_{rate:.0%}_false_rejects": {
                "recall": round(figures.recall[rate], 4),
                "interval": [round(v, 4) for v in figures.recall_interval[rate]],
            }
            for rate in figures.recall
        },
    }
