"""From a trained network to a version in a store: graph, thresholds, figures."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgeinspect.learning.datasets.arrays import Pictures
from edgeinspect.learning.evaluate.metrics.scores import gate_figures, segmenter_figures
from edgeinspect.learning.evaluate.metrics.thresholds import LEAST_AREA_PX, gate_limits
from edgeinspect.learning.onnx_graphs.manifest import Card
from edgeinspect.learning.onnx_graphs.run import run_graph
from edgeinspect.learning.train.export import export

Report = Callable[[str, int, int, float], None]
"""Told (stage, done, total, loss or 0)."""


def finish_gate(
    net: nn.Module,
    name: str,
    out: Path,
    run: Mapping[str, Any],
    samples: NDArray[np.uint8],
    validation: Pictures,
    test: Pictures | None,
    report: Report,
    version: int = 1,
) -> dict[str, Any]:
    """Export a gate, choose its thresholds on `validation`, measure it on `test`.

    Returns:
        The figures in its manifest, from the graph that was written.
    """
    folder = write(net, name, out, ("defect",), run, {}, {}, samples, version)
    probs = gate_probs(folder, validation, "thresholds", report)
    limits = gate_limits(probs, validation.defective)
    figures: dict[str, Any] = {}
    if test is not None:
        found = gate_probs(folder, test, "test", report)
        figures = {
            "pictures": len(test),
            "set": "test split",
            **gate_accuracy(found, test.defective),
        }
    write(net, name, out, ("defect",), run, limits, figures, samples, version)
    return figures


def finish_segmenter(
    net: nn.Module,
    name: str,
    out: Path,
    run: Mapping[str, Any],
    samples: NDArray[np.uint8],
    classes: Sequence[str],
    test: Pictures | None,
    report: Report,
    version: int = 1,
) -> dict[str, Any]:
    """Export a segmenter and measure it on `test`; limits are the plain ones.

    Returns:
        The figures in its manifest, from the graph that was written.
    """
    limits = {c: {"score": 0.5, "area_px": LEAST_AREA_PX} for c in classes}
    folder = write(net, name, out, classes, run, limits, {}, samples, version)
    figures: dict[str, Any] = {}
    if test is not None:
        outputs = graph_outputs(folder, test, "test", report)
        figures = {
            "pictures": len(test),
            "set": "test split",
            **segmenter_figures(outputs, test, int(net.stride)),
        }
        write(net, name, out, classes, run, limits, figures, samples, version)
    return figures


def write(
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
    return export(net, card, out, samples)


def gate_probs(folder: Path, pictures: Pictures, stage: str, report: Report) -> NDArray[np.float64]:
    """`defect_prob` of each picture, (N,)."""
    outputs = graph_outputs(folder, pictures, stage, report)
    return np.array([float(output[0][0]) for output in outputs])


def graph_outputs(
    folder: Path, pictures: Pictures, stage: str, report: Report
) -> list[list[NDArray[Any]]]:
    """What the written graph gives on each picture."""
    return run_graph(
        folder / "model.onnx",
        pictures.images,
        lambda done: report(stage, done, len(pictures), 0.0),
    )


def gate_accuracy(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> dict[str, Any]:
    """What a manifest says of a gate."""
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
