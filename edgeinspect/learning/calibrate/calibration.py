"""The calibration workflow: from an FP32 model and frames to an accepted or rejected INT8 model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.domain import ModelKind, ModelSpec, Pixels, Precision
from edgeinspect.errors import ModelError
from edgeinspect.learning.calibrate import qdq_placement, ranges
from edgeinspect.learning.calibrate import sampling as sample
from edgeinspect.learning.calibrate.acceptance import (
    AcceptanceLimits,
    AcceptanceResult,
    evaluate_acceptance,
)
from edgeinspect.learning.calibrate.checkpoint import (
    CalibrationCheckpoint,
    ProgressCallback,
    no_progress,
)
from edgeinspect.learning.calibrate.distance import Distance
from edgeinspect.learning.calibrate.frames import FrameSet, open_frames
from edgeinspect.learning.calibrate.histogram import Histogram
from edgeinspect.learning.calibrate.input_range_check import (
    check_frame_statistics,
    reference_statistics,
)
from edgeinspect.learning.calibrate.layer_sensitivity import (
    SensitivityReport,
    exclude_layers,
    layers_in_order,
    measure_layer_sensitivity,
)
from edgeinspect.learning.calibrate.method_selection import best_method, compare_methods
from edgeinspect.learning.calibrate.qdq_placement import QdqPlacement
from edgeinspect.learning.calibrate.range_methods import METHODS
from edgeinspect.learning.calibrate.sampling import FrameMetrics, FrameSelection
from edgeinspect.learning.calibrate.sessions import (
    default_backend,
    open_engine,
    write_temporary_model,
)
from edgeinspect.learning.calibrate.space_to_depth import space_to_depth_stem
from edgeinspect.learning.onnx_graphs.graph import fold_batch_norms, load_model, non_float32_type
from edgeinspect.ports import Engine

PLACEMENT_RULES_VERSION = "1"
"""Version of the Q/DQ placement rules; part of the calibration id."""
BEST_METHOD = "best"
DEFAULT_SENSITIVITY_FRAMES = 8


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """The settings of a calibration."""

    parent: ModelSpec
    """The FP32 model, verified."""
    images: str
    """Frames to calibrate with; see `frames.open_frames`."""
    labels: str | None = None
    """Labelled frames to verify with; without, FP32 and INT8 must agree on held-out frames."""
    scoring_gate: ModelSpec | None = None
    """Scores the frames of a segmenter's calibration, for stratified sampling."""
    method: str = BEST_METHOD
    seed: int = 1
    frame_count: int = 256
    held_out_count: int = 64
    sensitivity_frames: int = DEFAULT_SENSITIVITY_FRAMES
    """Frames for layer sensitivity; 0 skips it unless `exclude_sensitive` needs it."""
    exclude_sensitive: bool = False
    max_float_layers: int = 6
    """Layers that `exclude_sensitive` may keep in float."""
    float_layers: tuple[str, ...] = ()
    limits: AcceptanceLimits = field(default_factory=AcceptanceLimits)
    backend: str = ""
    """Backend that runs the verification; `ov` if it is installed."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """Everything that a calibration computed, accepted or not."""

    config: CalibrationConfig
    backend: str
    graph: Any
    """The INT8 onnx.ModelProto, its metadata set."""
    id: str
    placement: QdqPlacement
    frame_metrics: FrameMetrics
    selection: FrameSelection
    frames: FrameSet
    histograms: dict[str, Histogram]
    method: str
    distances: dict[str, Distance]
    acceptance: AcceptanceResult
    first_acceptance: AcceptanceResult
    """With all layers in int8; the same as `acceptance` if none were excluded."""
    sensitivity: SensitivityReport | None
    float_layers: tuple[str, ...]
    drift: tuple[str, ...]
    checkpoint: CalibrationCheckpoint
    """State on disk, to be cleared once the version is written."""


class _CalibrationRun:
    """State shared by the steps of one calibration."""

    def __init__(
        self, config: CalibrationConfig, work: Path, resume: bool, progress: ProgressCallback
    ) -> None:
        self.config = config
        self.progress = progress
        self.backend = config.backend or default_backend()
        self.parent = config.parent
        self.model = prepare_graph(self.parent)
        self.frames = open_frames(config.images, self.parent)
        self.labels = (
            None
            if config.labels is None
            else open_frames(config.labels, self.parent, labelled=True)
        )
        self.checkpoint = CalibrationCheckpoint(work / self._key(), resume=resume)

    def _key(self) -> str:
        asked = self.config
        made_of = [
            PLACEMENT_RULES_VERSION,
            self.parent.id.sha256,
            asked.scoring_gate.id.sha256 if asked.scoring_gate else "",
            asked.seed,
            asked.frame_count,
            asked.held_out_count,
            list(asked.float_layers),
            self.frames.where,
            list(self.frames.names),
        ]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]

    def measure_frames(self, frames: FrameSet, name: str) -> FrameMetrics:
        engine = open_engine(self.config.scoring_gate or self.parent, self.backend)
        try:
            return sample.measure_frames(
                frames,
                lambda image: defect_score(engine, image),
                self.checkpoint,
                self.progress,
                stage=name,
            )
        finally:
            engine.close()

    def describe_drift(self, metrics: FrameMetrics) -> tuple[str, ...]:
        """Describe differences from the training frames, or else from the labelled frames.

        All frames are compared, not the selection, which is stratified.

        Raises:
            DataError: The frames are too dark or flat for this model.
        """
        values = metrics.values[[digest != sample.UNREADABLE for digest in metrics.digests]]
        known = reference_statistics(self.config.parent)
        check_frame_statistics(values, None if known is None else known[0], self.frames.where)
        if known is not None:
            return tuple(sample.describe_drift(values, known[0], known[1]))
        if self.labels is None:
            return ()
        other = self.measure_frames(self.labels, "scan of the labelled").values
        return tuple(sample.describe_drift(values, sample.deciles(other), len(other)))

    def verify(self, graph: Any, held_out: FrameSet, name: str) -> AcceptanceResult:
        frames = self.labels or held_out
        child = write_temporary_model(self.parent, graph, self.checkpoint.folder, name)
        parent_engine, child_engine = (open_engine(s, self.backend) for s in (self.parent, child))
        try:
            return evaluate_acceptance(
                parent_engine,
                child_engine,
                frames,
                self.config.limits,
                lambda done: self.progress(f"prove {name}", done, len(frames)),
            )
        finally:
            parent_engine.close()
            child_engine.close()

    def measure_sensitivity(
        self, clip_values: dict[str, float], held_out: FrameSet
    ) -> SensitivityReport:
        frames = self.labels or held_out
        count = self.config.sensitivity_frames or DEFAULT_SENSITIVITY_FRAMES
        return measure_layer_sensitivity(
            self.parent, self.model, clip_values, informative_frames(frames, count), self.progress
        )


def calibrate(
    config: CalibrationConfig,
    work: Path,
    *,
    resume: bool = False,
    progress: ProgressCallback = no_progress,
) -> CalibrationResult:
    """Collect ranges, choose a method, insert Q/DQ, verify, and measure layer sensitivity.

    Args:
        config: Settings.
        work: Folder for the state of unfinished calibrations.
        resume: Continue an interrupted calibration with the same settings.
        progress: Called with stage, done and total.

    Returns:
        The result, which may be a rejection: see `CalibrationResult.acceptance`.

    Raises:
        ModelError: The model cannot be quantized.
        DataError: The frames cannot be used.
    """
    try:
        return _run_calibration(config, work, resume, progress)
    except Exception as error:
        if not type(error).__module__.startswith(("onnx", "google.protobuf")):
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"{config.parent.id} cannot be quantized: {words[:240]}",
            where=str(config.parent.path),
            remedy="Export the network in float32 with standard operators, and import it again",
        ) from error


def _run_calibration(
    config: CalibrationConfig, work: Path, resume: bool, progress: ProgressCallback
) -> CalibrationResult:
    run = _CalibrationRun(config, work, resume, progress)
    found = run.measure_frames(run.frames, sample.STAGE)
    drift = run.describe_drift(found)
    chosen = sample.select_frames(found, config.frame_count, config.held_out_count, config.seed)
    held_out = run.frames.subset(chosen.held_out)
    whole = qdq_placement.plan_qdq(run.model)
    placement = qdq_placement.plan_qdq(run.model, config.float_layers)
    histograms = ranges.collect_histograms(
        run.model, whole.tensors, run.frames.subset(chosen.calibration), run.checkpoint, progress
    )
    wanted = METHODS if config.method == BEST_METHOD else (config.method,)
    reach = {name: ranges.clip_values(histograms, name) for name in wanted}
    graphs = {name: qdq_placement.insert_qdq(run.model, placement, reach[name]) for name in wanted}
    distances = compare_methods(
        run.parent, graphs, held_out, run.checkpoint.folder, run.backend, progress
    )
    method = best_method(distances)
    graph, left = graphs[method], config.float_layers
    first = acceptance = run.verify(graph, held_out, "int8")
    why = None
    if config.sensitivity_frames or (config.exclude_sensitive and not first.is_accepted):
        why = run.measure_sensitivity(reach[method], held_out)
    if config.exclude_sensitive and not first.is_accepted and why is not None:
        last: list[AcceptanceResult] = []

        def holds(names: tuple[str, ...]) -> bool:
            made = qdq_placement.insert_qdq(
                run.model, qdq_placement.plan_qdq(run.model, names), reach[method]
            )
            last.append(run.verify(made, held_out, f"with {len(names)} in float"))
            return last[-1].is_accepted

        rescued = exclude_layers(why, holds, config.max_float_layers)
        if rescued is not None:
            left = layers_in_order(placement, rescued)
            placement = qdq_placement.plan_qdq(run.model, left)
            graph = qdq_placement.insert_qdq(run.model, placement, reach[method])
            acceptance = run.verify(graph, held_out, "recovered")
    name = calibration_id(config, found, chosen, method, placement, reach[method])
    set_metadata(graph, config.parent, name)
    return CalibrationResult(
        config,
        run.backend,
        graph,
        name,
        placement,
        found,
        chosen,
        run.frames,
        histograms,
        method,
        distances,
        acceptance,
        first,
        why,
        left,
        drift,
        run.checkpoint,
    )


def prepare_graph(parent: ModelSpec) -> Any:
    """Load the FP32 graph with batch norms folded and its stem rewritten for int8.

    Raises:
        ModelError: It is not FP32.
    """
    if parent.precision is not Precision.FP32:
        raise ModelError(
            f"{parent.id} is already {parent.precision.value}",
            where=str(parent.path),
            remedy=_FLOAT32_REMEDY,
        )
    model = load_model(parent.path)
    if other := non_float32_type(model):
        raise ModelError(
            f"{parent.id} computes in {other}, not in float32",
            where=str(parent.path),
            remedy=_FLOAT32_REMEDY,
        )
    fold_batch_norms(model)
    space_to_depth_stem(model)
    return model


_FLOAT32_REMEDY = (
    "Calibrate its float32 version: export the network in float32 (torch: model.float()) and "
    "import that; `edgeinspect models build` converts it to FP16"
)


def defect_score(engine: Engine, image: Pixels) -> float:
    """Return a gate's probability, or a segmenter's highest class score."""
    outputs: Any = engine.infer(image)
    if engine.spec.kind is ModelKind.GATE:
        return float(outputs[0][0])
    return float(np.max(outputs[2][0], initial=0.0))


def informative_frames(frames: FrameSet, count: int) -> FrameSet:
    """Return evenly spaced frames; of a labelled set, two thirds are defective."""
    numbers = list(range(len(frames)))
    if frames.read_label is None:
        return frames.subset(_evenly_spaced(numbers, count))
    # A few hundred labels are enough to find some of each kind.
    looked = _evenly_spaced(numbers, min(len(numbers), 40 * count))
    bad = [number for number in looked if frames.read_label(number).is_defective]
    good = [number for number in looked if number not in set(bad)]
    wanted = min(len(bad), max(count - len(good), -(-2 * count // 3)))
    return frames.subset(
        sorted([*_evenly_spaced(bad, wanted), *_evenly_spaced(good, count - wanted)])
    )


def _evenly_spaced(numbers: Sequence[int], count: int) -> list[int]:
    """Return `count` evenly spaced numbers."""
    if count >= len(numbers):
        return list(numbers)
    return [numbers[int((index + 0.5) * len(numbers) / count)] for index in range(count)]


def calibration_id(
    config: CalibrationConfig,
    metrics: FrameMetrics,
    selection: FrameSelection,
    method: str,
    placement: QdqPlacement,
    clip_values: dict[str, float],
) -> str:
    """Return the calibration's id: a hash of the parent, the images and all decisions."""
    made_of = {
        "rules": PLACEMENT_RULES_VERSION,
        "parent": config.parent.id.sha256,
        "sample": [metrics.digests[number] for number in selection.calibration],
        "held_out": [metrics.digests[number] for number in selection.held_out],
        "seed": config.seed,
        "method": method,
        "int8": [layer.name for layer in placement.int8_layers],
        "scales": {
            name: qdq_placement.int8_scale(clip_values[name]).item().hex()
            for name in placement.tensors
        },
    }
    text = json.dumps(made_of, sort_keys=True)
    return "cal-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def set_metadata(graph: Any, parent: ModelSpec, calibration: str) -> None:
    """Store calibration id and parent in the graph's metadata."""
    known = {entry.key for entry in graph.metadata_props}
    for key, value in (
        ("edgeinspect.calibration", calibration),
        ("edgeinspect.parent", parent.id.sha256),
    ):
        if key not in known:
            graph.metadata_props.add(key=key, value=value)
