"""Writes a trained network as a model version: graph, thresholds, measured accuracy."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.domain import BASE_CONTRACT, EXTENDED_CONTRACT, Decides
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate import (
    SPLIT_FILE_NAME,
    choose_gate_thresholds,
    classifier_scores,
    mean_recall,
    segmentation_scores,
)
from edgeinspect.learning.onnx_graphs.manifest import ModelCard
from edgeinspect.learning.train.checkpoint import write_file
from edgeinspect.learning.train.export import export_graph
from edgeinspect.learning.train.frozen_head import gate_targets
from edgeinspect.learning.train.line_thresholds import LineGraphs, measure_line, run_exported
from edgeinspect.learning.train.networks import count_parameters
from edgeinspect.learning.train.progress import StageProgress
from edgeinspect.learning.train.recipe import TrainingRecipe


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
    decides: Decides = Decides.DEFECTS
    split: bytes = b""
    """The split file of the training: every later command knows its images by it."""

    @property
    def folder(self) -> Path:
        """Where the version is written."""
        return self.root / self.name / str(self.version)

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
            contract=EXTENDED_CONTRACT if getattr(self.net, "kinds", 0) else BASE_CONTRACT,
            decides=self.decides,
            pretrained=str(self.run.get("pretrained", "")),
            pretrained_sha256=str(self.run.get("pretrained_sha256", "")),
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
    outputs = run_exported(folder, validation, "thresholds", on_progress)
    thresholds: dict[str, Any] = {}
    if writer.decides is Decides.DEFECTS:
        thresholds = choose_gate_thresholds(_defect_probs(outputs), validation.defective)
    accuracy: dict[str, Any] = {}
    if test is not None:
        outputs = run_exported(folder, test, "test", on_progress)
        accuracy = {"pictures": len(test), "set": "test split"}
        if writer.decides is Decides.DEFECTS:
            accuracy |= gate_manifest_scores(_defect_probs(outputs), test.defective)
        if len(outputs[0]) > 1:
            accuracy |= kinds_manifest_scores(outputs, test, writer.classes)
    writer.write(thresholds, accuracy)
    return accuracy


def export_segmenter(
    writer: VersionWriter,
    validation: ImageArrays,
    test: ImageArrays | None,
    on_progress: StageProgress,
) -> dict[str, Any]:
    """Export a segmenter, choose its thresholds on `validation`, measure it on `test`.

    Returns:
        The accuracy in its manifest, measured with the written graph.
    """
    folder = writer.write()
    stride = int(writer.net.stride)
    graphs = LineGraphs(None, folder, stride)
    scores, _outputs = graphs.scores(validation, "thresholds", on_progress)
    chosen = graphs.choose(scores, validation, writer.classes)
    accuracy: dict[str, Any] = {}
    if test is not None:
        scores, outputs = graphs.scores(test, "test", on_progress)
        accuracy = {
            "pictures": len(test),
            "set": "test split",
            **segmentation_scores(outputs, test, stride),
            "line": measure_line(scores, test, chosen),
        }
    writer.write(chosen.classes, accuracy)
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
    return _defect_probs(run_exported(folder, images, stage, on_progress))


def _defect_probs(outputs: Sequence[Sequence[NDArray[Any]]]) -> NDArray[np.float64]:
    return np.array([float(output[0][0]) for output in outputs])


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


def kinds_manifest_scores(
    outputs: Sequence[Sequence[NDArray[Any]]], images: ImageArrays, classes: Sequence[str]
) -> dict[str, Any]:
    """Return balanced accuracy and recall of each class for a manifest, rounded.

    Args:
        outputs: Of each image `defect_prob` (1,) and `class_prob` (1, K).
        images: Those of unknown kind do not count.
        classes: Names of the kinds.
    """
    good = 1 - _defect_probs(outputs)
    probs = np.column_stack([good, np.stack([output[1][0] for output in outputs])])
    truth = gate_targets(images, len(classes))
    names = ("good", *classes)
    totals = np.array([(truth == index).sum() for index in range(len(names))])
    found = truth[probs.argmax(axis=1) == truth]
    hits = np.array([(found == index).sum() for index in range(len(names))])
    balanced = mean_recall(hits, totals)
    return {
        "balanced_accuracy": None if balanced is None else round(balanced, 4),
        "recall_by_class": {
            name: round(float(hit / total), 4)
            for name, hit, total in zip(names, hits, totals, strict=True)
            if total
        },
    }
