"""Writes a trained network as a model version: graph, thresholds, measured accuracy."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate import (
    MIN_AREA_PX,
    SPLIT_FILE_NAME,
    choose_gate_thresholds,
    classifier_scores,
    segmentation_scores,
)
from edgeinspect.learning.onnx_graphs.manifest import ModelCard
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.learning.train.checkpoint import write_file
from edgeinspect.learning.train.export import export_graph
from edgeinspect.learning.train.networks import count_parameters
from edgeinspect.learning.train.recipe import TrainingRecipe

StageProgress = Callable[[str, int, int, float], None]
"""Called with (stage, done, total, loss or 0)."""


@dataclass(frozen=True, slots=True)
class VersionWriter:
    """Exports one trained network under the model contract."""

    net: nn.Module
    name: str
    root: Path
    """A model store's folder."""
    classes: Sequence[str]
    run: Mapping[str, Any]
    """What the manifest records of the training."""
    samples: NDArray[np.uint8]
    """Images to check the export with."""
    version: int = 1
    split: bytes = b""
    """The split file of the training: every later command knows its images by it."""

    def write(
        self, thresholds: Mapping[str, Any] | None = None, accuracy: Mapping[str, Any] | None = None
    ) -> Path:
        """Write graph and manifest, replacing earlier ones; return the version's folder."""
        card = ModelCard(
            name=self.name,
            version=self.version,
            classes=self.classes,
            run=str(self.run["run"]),
            thresholds=thresholds or {},
            training={**self.run, **self._split_digest()},
            accuracy=accuracy or {},
            created=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        )
        folder = export_graph(self.net, card, self.root, self.samples)
        if self.split:
            write_file(folder / SPLIT_FILE_NAME, self.split)
        return folder

    def _split_digest(self) -> dict[str, str]:
        return {"split_sha256": hashlib.sha256(self.split).hexdigest()} if self.split else {}


def export_gate(
    writer: VersionWriter,
    validation: ImageArrays,
    test: ImageArrays | None,
    on_progress: StageProgress,
) -> dict[str, Any]:
    """Export a gate, choose its thresholds on `validation`, measure it on `test`.

    Returns:
        The accuracy in its manifest, measured with the written graph.
    """
    folder = writer.write()
    probs = run_gate(folder, validation, "thresholds", on_progress)
    thresholds = choose_gate_thresholds(probs, validation.defective)
    accuracy: dict[str, Any] = {}
    if test is not None:
        probs = run_gate(folder, test, "test", on_progress)
        accuracy = {
            "pictures": len(test),
            "set": "test split",
            **gate_manifest_scores(probs, test.defective),
        }
    writer.write(thresholds, accuracy)
    return accuracy


def export_segmenter(
    writer: VersionWriter, test: ImageArrays | None, on_progress: StageProgress
) -> dict[str, Any]:
    """Export a segmenter with default thresholds and measure it on `test`.

    Returns:
        The accuracy in its manifest, measured with the written graph.
    """
    thresholds = {name: {"score": 0.5, "area_px": MIN_AREA_PX} for name in writer.classes}
    folder = writer.write(thresholds)
    accuracy: dict[str, Any] = {}
    if test is not None:
        outputs = run_exported_graph(folder, test, "test", on_progress)
        accuracy = {
            "pictures": len(test),
            "set": "test split",
            **segmentation_scores(outputs, test, int(writer.net.stride)),
        }
        writer.write(thresholds, accuracy)
    return accuracy


def describe_fit(net: nn.Module, recipe: TrainingRecipe, started: float) -> dict[str, Any]:
    """Return what a manifest records of a training that began at `time.monotonic()` `started`."""
    return {
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": count_parameters(net),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def run_gate(
    folder: Path, images: ImageArrays, stage: str, on_progress: StageProgress
) -> NDArray[np.float64]:
    """Return `defect_prob` of each image, (N,)."""
    outputs = run_exported_graph(folder, images, stage, on_progress)
    return np.array([float(output[0][0]) for output in outputs])


def run_exported_graph(
    folder: Path, images: ImageArrays, stage: str, on_progress: StageProgress
) -> list[list[NDArray[Any]]]:
    """Return the written graph's outputs for each image."""
    return run_graph(
        folder / "model.onnx",
        images.images,
        lambda done: on_progress(stage, done, len(images), 0.0),
    )


def gate_manifest_scores(
    probs: NDArray[np.float64], defective: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return the scores of a gate for its manifest, rounded."""
    scores = classifier_scores(probs, defective, (0.01, 0.05))
    return {
        "auc": round(scores.auc, 4),
        "auc_interval": [round(v, 4) for v in scores.auc_interval],
        **{
            f"recall_at_{100 * rate:g}_percent_false_rejects": {
                "recall": round(scores.recall[rate], 4),
                "interval": [round(v, 4) for v in scores.recall_interval[rate]],
            }
            for rate in scores.recall
        },
    }
