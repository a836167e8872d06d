"""Exports a good-parts model under the contract, and measures it on the test split."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import GOOD_PARTS_CONTRACT, LearnedFrom, ModelKind
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate import (
    MAP_TENSOR,
    PixelRanking,
    classifier_scores,
    open_anomaly_map,
)
from edgeinspect.learning.onnx_graphs.manifest import ModelCard, graph_metadata
from edgeinspect.learning.train.anomaly.anomaly_map import (
    FEATURES_NAME,
    OUTPUT_NAMES,
    AnomalyGraph,
    AnomalyMap,
    output_stride,
)
from edgeinspect.learning.train.anomaly.cell_features import CellFeatures
from edgeinspect.learning.train.anomaly.cell_method import MethodDecision
from edgeinspect.learning.train.anomaly.false_rejects import ThresholdChoice
from edgeinspect.learning.train.anomaly.held_out import HeldOutScores
from edgeinspect.learning.train.anomaly.images import AnomalyImages
from edgeinspect.learning.train.encoders import PretrainedWeights
from edgeinspect.learning.train.export import write_contract_graph
from edgeinspect.learning.train.progress import StageProgress

FLOAT_UNTIL = "float_until"
"""Key of the graph's metadata; see `learning.calibrate.qdq_placement`."""
_SAMPLES = 4
THRESHOLD = 0.5
"""Of `defect_prob`: the scale puts the chosen threshold here."""
_RATES = (0.01, 0.05)


@dataclass(frozen=True, slots=True)
class VersionInputs:
    """What a version is written from."""

    features: CellFeatures
    anomaly_map: AnomalyMap
    choice: ThresholdChoice
    held_out: HeldOutScores
    method: MethodDecision
    name: str
    root: Path
    """A model store's folder."""
    class_name: str
    run: Mapping[str, Any]
    """What the manifest records of the training."""
    weights: PretrainedWeights | None


def export_version(
    inputs: VersionInputs,
    images: AnomalyImages,
    on_progress: StageProgress,
) -> dict[str, Any]:
    """Write graph and manifest, and return the accuracy in it, measured with the written graph.

    Raises:
        ModelError: The graph breaks the contract, or differs from torch.
    """
    frames = images.good.images
    stride = output_stride(*frames.shape[1:3])
    graph = AnomalyGraph(inputs.features, inputs.anomaly_map, inputs.choice.scale, stride)
    samples = [frames[0 : _SAMPLES // 2]]
    if images.test is not None:  # defective ones too, if there are any: their maps are not empty
        defective = np.flatnonzero(images.test.defective)[: _SAMPLES // 2]
        samples.append(images.test.images[defective])
    checked = np.ascontiguousarray(np.concatenate(samples))
    accuracy: dict[str, Any] = {
        "false_rejects": inputs.choice.to_document(inputs.held_out.scores),
        "folds": inputs.held_out.folds,
    }
    if inputs.method.aucs:
        accuracy["method"] = inputs.method.to_document()
    folder = _write(graph, inputs, accuracy, stride, checked)
    if images.test is not None:
        accuracy["test"] = _measure(folder, images.test, on_progress)
        _write(graph, inputs, accuracy, stride, checked)
    return accuracy


def _write(
    graph: AnomalyGraph,
    inputs: VersionInputs,
    accuracy: Mapping[str, Any],
    stride: int,
    samples: NDArray[np.uint8],
) -> Path:
    weights = inputs.weights
    card = ModelCard(
        name=inputs.name,
        version=1,
        classes=(inputs.class_name,),
        run=str(inputs.run["run"]),
        thresholds={"reject": THRESHOLD, "area_px": 0.0},
        training=inputs.run,
        accuracy=accuracy,
        created=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        contract=GOOD_PARTS_CONTRACT,
        learned_from=LearnedFrom.GOOD,
        pretrained=weights.name if weights else "",
        pretrained_sha256=weights.sha256 if weights else "",
    )
    color = "mono" if samples.shape[3] == 1 else "bgr"
    metadata = graph_metadata(ModelKind.SEGMENTER, card, color, stride)
    metadata = {**metadata, FLOAT_UNTIL: FEATURES_NAME}
    inner = (MAP_TENSOR, FEATURES_NAME)
    return write_contract_graph(
        graph, OUTPUT_NAMES, card, metadata, inputs.root, samples, inner=inner
    )


def _measure(folder: Path, test: ImageArrays, on_progress: StageProgress) -> dict[str, Any]:
    """Return scores of the written graph on the test split."""
    read_map = open_anomaly_map(folder / "model.onnx")
    assert read_map is not None
    pixels = PixelRanking()
    probs = np.zeros(len(test))
    for number in range(len(test)):
        values, probs[number] = read_map(np.asarray(test.images[number]))
        mask = test.masks[number]
        if mask.any() or not test.defective[number]:
            pixels.add(values, mask)
        on_progress("test", number + 1, len(test), 0.0)
    good, bad = probs[~test.defective], probs[test.defective]
    out: dict[str, Any] = {
        "pictures": len(test),
        "good": len(good),
        "defective": len(bad),
        "false_rejects": int((good >= THRESHOLD).sum()),
        "found": int((bad >= THRESHOLD).sum()),
    }
    if len(good) and len(bad):
        scores = classifier_scores(probs, test.defective, _RATES)
        out["auc"] = round(scores.auc, 4)
        out["auc_interval"] = [round(value, 4) for value in scores.auc_interval]
        for rate in _RATES:
            out[f"recall_at_{100 * rate:g}_percent_false_rejects"] = round(scores.recall[rate], 4)
    if (ranking := pixels.result()) is not None:
        out["pixel_auc"] = round(ranking.auc, 4)
        out["region_overlap"] = round(ranking.region_overlap, 4)
    return out
