"""The calibration workflow: from an FP32 model and frames to an accepted or rejected INT8 model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from edgeinspect.domain import Decides, ModelSpec, Pixels, Precision
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate import ranges, sampling
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
from edgeinspect.learning.calibrate.distance import OutputDistance
from edgeinspect.learning.calibrate.frame_statistics import (
    check_frame_statistics,
    deciles,
    describe_drift,
    reference_statistics,
)
from edgeinspect.learning.calibrate.frames import FrameSet, count_training_images, open_frames
from edgeinspect.learning.calibrate.layer_sensitivity import (
    SensitivityReport,
    exclude_layers,
    layers_in_order,
    measure_layer_sensitivity,
)
from edgeinspect.learning.calibrate.qdq_placement import (
    QdqPlacement,
    insert_qdq,
    int8_scale,
    plan_qdq,
)
from edgeinspect.learning.calibrate.ranges import (
    METHODS,
    ActivationHistogram,
    best_method,
    compare_methods,
)
from edgeinspect.learning.calibrate.sampling import FrameMetrics, FrameSelection
from edgeinspect.learning.calibrate.sessions import (
    default_backend,
    open_engine,
    write_temporary_model,
)
from edgeinspect.learning.calibrate.space_to_depth import space_to_depth_stem
from edgeinspect.learning.calibrate.thresholds import (
    FrameScores,
    ThresholdChoice,
    choose_thresholds,
    keep_thresholds,
    measure_scores,
)
from edgeinspect.learning.datasets import TEST, TRAIN, VAL
from edgeinspect.learning.evaluate import TrainingKnowledge, training_knowledge, training_note
from edgeinspect.learning.onnx_graphs.graph import fold_batch_norms, load_model, non_float32_type
from edgeinspect.ports import Engine
from edgeinspect.system import claim_folder

PLACEMENT_RULES_VERSION = "1"
"""Version of the Q/DQ placement rules; part of the calibration id."""
BEST_METHOD = "best"
_SYNTHETIC_PREFIX = "strip:"
DEFAULT_SENSITIVITY_FRAMES = 8
_FLOAT32_REMEDY = (
    "Calibrate its float32 version: export the network in float32 (torch: model.float()) and "
    "import that; `edgeinspect models build` converts it to FP16"
)


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """The settings of a calibration."""

    parent: ModelSpec
    """The FP32 model, verified."""
    images: str
    """Frames to calibrate with; see `frames.open_frames`."""
    labels: str | None = None
    """Labelled frames to verify with; without, FP32 and INT8 must agree on held-out frames."""
    split_file: Path | None = None
    """Says which images are in a split, instead of the data set's own."""
    on_training_images: bool = False
    """The verification may use images that the parent was trained on."""
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
    histograms: dict[str, ActivationHistogram]
    method: str
    distances: dict[str, OutputDistance]
    acceptance: AcceptanceResult
    first_acceptance: AcceptanceResult
    """With all layers in int8; the same as `acceptance` if none were excluded."""
    sensitivity: SensitivityReport | None
    float_layers: tuple[str, ...]
    drift: tuple[str, ...]
    training_images: int | None
    """How many frames of the verification the parent was trained on; None if not known."""
    notes: tuple[str, ...]
    """What is, or is not, known of the training images, to be shown to the user."""
    checkpoint: CalibrationCheckpoint
    """State on disk, to be cleared once the version is written."""


class _CalibrationRun:
    """The inputs of one calibration, and the steps that need several of them."""

    def __init__(self, config: CalibrationConfig, work: Path, progress: ProgressCallback) -> None:
        self.config = config
        self.progress = progress
        self.backend = config.backend or default_backend()
        self.parent = config.parent
        self.model = prepare_graph(self.parent)
        self.training = training_knowledge([self.parent])
        opened = partial(
            open_frames,
            spec=self.parent,
            split_file=config.split_file,
            training=self.training,
        )
        self.frames = opened(config.images, training_parts=(TRAIN,))
        proof = config.labels or self._own_proof()
        self.labels = (
            None if proof is None else opened(proof, labelled=True, training_parts=(VAL, TEST))
        )
        self.validation = open_validation(config, proof, self.training)
        self._parent_scores: FrameScores | None = None
        self.training_images: int | None = None
        self.checkpoint = CalibrationCheckpoint(work / self._key())

    def _own_proof(self) -> str | None:
        """Return the frames' own set for the verification if the parent was trained on it."""
        name = self.config.images.partition("#")[0]
        trained = self.frames.trained or frozenset()
        is_trained = any(each in trained for each in self.frames.names)
        return name if is_trained and not self.config.on_training_images else None

    def check_proof(self, held_out: FrameSet) -> None:
        """Count the training images among the frames of the verification.

        Raises:
            DataError: There are some, and the configuration does not allow them.
        """
        frames = self.labels or held_out
        self.training_images = count_training_images(frames, self.training)
        self.training.check(
            self.training_images,
            len(frames),
            frames.where,
            is_allowed=self.config.on_training_images,
            remedy="Verify on images that it has not seen: --data DATASET, or DATASET#test",
        )

    def notes(self, held_out: FrameSet) -> tuple[str, ...]:
        """Return what is known of training images, and which splits were chosen by it."""
        proof = self.labels or held_out
        chosen = []
        if self.frames.where != self.config.images and "#" in self.frames.where:
            chosen.append(f"calibrated on {self.frames.where}")
        if self.labels is not None and self.labels.where != self.config.labels:
            chosen.append(f"verified on {self.labels.where}")
        return (
            *self.training.notes,
            *([", ".join(chosen) + ", by the split of the training"] if chosen else []),
            *training_note(self.training_images, len(proof)),
        )

    def _key(self) -> str:
        config = self.config
        inputs = [
            PLACEMENT_RULES_VERSION,
            self.parent.id.sha256,
            config.scoring_gate.id.sha256 if config.scoring_gate else "",
            config.seed,
            config.frame_count,
            config.held_out_count,
            list(config.float_layers),
            self.frames.where,
            list(self.frames.names),
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:20]

    def measure_frames(self, frames: FrameSet, stage: str) -> FrameMetrics:
        engine = open_engine(self.config.scoring_gate or self.parent, self.backend)
        try:
            return sampling.measure_frames(
                frames,
                lambda image: defect_score(engine, image),
                self.checkpoint,
                self.progress,
                stage=stage,
            )
        finally:
            engine.close()

    def describe_drift(self, metrics: FrameMetrics) -> tuple[str, ...]:
        """Describe differences from the training frames, or else from the labelled frames.

        All frames are compared, not the selection, which is stratified.

        Raises:
            DataError: The frames are too dark or flat for this model.
        """
        values = metrics.values[[digest != sampling.UNREADABLE for digest in metrics.digests]]
        reference = reference_statistics(self.parent)
        check_frame_statistics(values, reference and reference[0], self.frames.where)
        if reference is not None:
            return tuple(describe_drift(values, reference[0], reference[1]))
        if self.labels is None:
            return ()
        labelled = self.measure_frames(self.labels, "scan of the labelled").values
        return tuple(describe_drift(values, deciles(labelled), len(labelled)))

    def quantize(self, clip_values: dict[str, float], float_layers: Collection[str]) -> Any:
        return insert_qdq(self.model, plan_qdq(self.model, float_layers), clip_values)

    def verify(self, graph: Any, held_out: FrameSet, name: str) -> AcceptanceResult:
        frames = self.labels or held_out
        child = write_temporary_model(self.parent, graph, self.checkpoint.folder, name)
        choice = self.choose_thresholds(child, name)
        child = replace(child, thresholds=MappingProxyType(dict(choice.child)))
        parent_engine, child_engine = (open_engine(s, self.backend) for s in (self.parent, child))
        try:
            return evaluate_acceptance(
                parent_engine,
                child_engine,
                frames,
                self.config.limits,
                lambda done: self.progress(f"verify {name}", done, len(frames)),
                thresholds=choice,
            )
        finally:
            parent_engine.close()
            child_engine.close()

    def choose_thresholds(self, child: ModelSpec, name: str) -> ThresholdChoice:
        """Choose the thresholds of an INT8 model on the validation frames, if there are any."""
        frames = self.validation
        if not isinstance(frames, FrameSet):
            return keep_thresholds(self.parent, frames)
        if self._parent_scores is None:
            self._parent_scores = self._measure_scores(self.parent, frames, "thresholds of FP32")
        scores = self._measure_scores(child, frames, f"thresholds of {name}")
        return choose_thresholds(self.parent, self._parent_scores, scores, frames.where)

    def _measure_scores(self, spec: ModelSpec, frames: FrameSet, stage: str) -> FrameScores:
        engine = open_engine(spec, self.backend)
        try:
            return measure_scores(
                engine, frames, lambda done: self.progress(stage, done, len(frames))
            )
        finally:
            engine.close()

    def measure_sensitivity(
        self, clip_values: dict[str, float], held_out: FrameSet
    ) -> SensitivityReport:
        count = self.config.sensitivity_frames or DEFAULT_SENSITIVITY_FRAMES
        frames = informative_frames(self.labels or held_out, count)
        return measure_layer_sensitivity(
            self.parent, self.model, clip_values, frames, self.progress
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
        ModelError: The model cannot be quantised.
        DataError: The frames cannot be used.
        OutputError: Another process does the same calibration, or its state cannot be written.
    """
    try:
        return _run_calibration(config, work, resume, progress)
    except Exception as error:
        if not type(error).__module__.startswith(("onnx", "google.protobuf")):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"{config.parent.id} cannot be quantised: {reason[:240]}",
            where=str(config.parent.path),
            remedy="Export the network in float32 with standard operators, and import it again",
        ) from error


def _run_calibration(
    config: CalibrationConfig, work: Path, resume: bool, progress: ProgressCallback
) -> CalibrationResult:
    run = _CalibrationRun(config, work, progress)
    with claim_folder(run.checkpoint.folder):
        if not resume:
            run.checkpoint.clear()
        return _calibrate_frames(run)


def _calibrate_frames(run: _CalibrationRun) -> CalibrationResult:
    config, progress = run.config, run.progress
    metrics = run.measure_frames(run.frames, sampling.STAGE)
    drift = run.describe_drift(metrics)
    selection = sampling.select_frames(
        metrics, config.frame_count, config.held_out_count, config.seed
    )
    held_out = run.frames.subset(selection.held_out)
    run.check_proof(held_out)
    histograms = ranges.collect_histograms(
        run.model,
        plan_qdq(run.model).tensors,
        run.frames.subset(selection.calibration),
        run.checkpoint,
        progress,
    )
    methods = METHODS if config.method == BEST_METHOD else (config.method,)
    clip_values = {name: ranges.clip_values(histograms, name) for name in methods}
    float_layers = config.float_layers
    graphs = {name: run.quantize(clip_values[name], float_layers) for name in methods}
    distances = compare_methods(
        run.parent, graphs, held_out, run.checkpoint.folder, run.backend, progress
    )
    method = best_method(distances)
    clips = clip_values[method]
    graph = graphs[method]
    first = acceptance = run.verify(graph, held_out, "int8")
    exclude = config.exclude_sensitive and not first.is_accepted and not first.remedy
    sensitivity = None
    if config.sensitivity_frames or exclude:
        sensitivity = run.measure_sensitivity(clips, held_out)
    if exclude and sensitivity is not None:

        def is_accepted(names: tuple[str, ...]) -> bool:
            candidate = run.quantize(clips, names)
            return run.verify(candidate, held_out, f"with {len(names)} in float").is_accepted

        excluded = exclude_layers(sensitivity, is_accepted, config.max_float_layers)
        if excluded is not None:
            float_layers = layers_in_order(plan_qdq(run.model), excluded)
            graph = run.quantize(clips, float_layers)
            acceptance = run.verify(graph, held_out, "recovered")
    placement = plan_qdq(run.model, float_layers)
    calibration = calibration_id(config, metrics, selection, method, placement, clips)
    set_metadata(graph, config.parent, calibration, acceptance.thresholds)
    return CalibrationResult(
        config=config,
        backend=run.backend,
        graph=graph,
        id=calibration,
        placement=placement,
        frame_metrics=metrics,
        selection=selection,
        frames=run.frames,
        histograms=histograms,
        method=method,
        distances=distances,
        acceptance=acceptance,
        first_acceptance=first,
        sensitivity=sensitivity,
        float_layers=float_layers,
        drift=drift,
        training_images=run.training_images,
        notes=run.notes(held_out),
        checkpoint=run.checkpoint,
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


def defect_score(engine: Engine, image: Pixels) -> float:
    """Return the probability of a gate or a good-parts model, else the highest class score.

    Of a gate that only tells kinds apart: that of its most probable kind.
    """
    spec, outputs = engine.spec, cast(Any, engine.infer(image))
    if spec.decides is Decides.KINDS:
        return float(np.max(outputs[1][0]))
    if "defect_prob" in spec.outputs:
        return float(outputs[spec.outputs.index("defect_prob")][0])
    return float(np.max(outputs[2][0], initial=0.0))


def informative_frames(frames: FrameSet, count: int) -> FrameSet:
    """Return evenly spaced frames; of a labelled set, two thirds are defective."""
    numbers = list(range(len(frames)))
    if frames.read_label is None:
        return frames.subset(_evenly_spaced(numbers, count))
    # A few hundred labels are enough to find some of each kind.
    candidates = _evenly_spaced(numbers, min(len(numbers), 40 * count))
    bad = [number for number in candidates if frames.read_label(number).is_defective]
    good = [number for number in candidates if number not in set(bad)]
    bad_count = min(len(bad), max(count - len(good), -(-2 * count // 3)))
    chosen = [*_evenly_spaced(bad, bad_count), *_evenly_spaced(good, count - bad_count)]
    return frames.subset(sorted(chosen))


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
    inputs = {
        "rules": PLACEMENT_RULES_VERSION,
        "parent": config.parent.id.sha256,
        "sample": [metrics.digests[number] for number in selection.calibration],
        "held_out": [metrics.digests[number] for number in selection.held_out],
        "seed": config.seed,
        "method": method,
        "int8": [layer.name for layer in placement.int8_layers],
        "scales": {name: int8_scale(clip_values[name]).item().hex() for name in placement.tensors},
    }
    text = json.dumps(inputs, sort_keys=True)
    return "cal-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def set_metadata(
    graph: Any, parent: ModelSpec, calibration: str, thresholds: ThresholdChoice | None = None
) -> None:
    """Store calibration id and parent in the graph's metadata, and thresholds of its own."""
    known = {entry.key for entry in graph.metadata_props}
    for key, value in (
        ("edgeinspect.calibration", calibration),
        ("edgeinspect.parent", parent.id.sha256),
    ):
        if key not in known:
            graph.metadata_props.add(key=key, value=value)
    if thresholds is not None and thresholds.is_changed:
        for entry in graph.metadata_props:
            if entry.key == "edgeinspect.thresholds":
                entry.value = json.dumps(thresholds.child)


def open_validation(
    config: CalibrationConfig, labels: str | None, training: TrainingKnowledge
) -> FrameSet | str:
    """Return the validation frames of the labelled set, or why there are none.

    They are neither calibrated with nor, with `#test`, verified on.

    Args:
        config: Of the calibration.
        labels: The labelled set, with or without its part.
        training: Of the float model; its split is used.
    """
    if labels is None:
        return "there are no labels"
    root, _, split = labels.partition("#")
    if root.startswith(_SYNTHETIC_PREFIX):
        return "a rendered set has no validation split"
    try:
        return open_frames(
            f"{root}#{VAL}",
            config.parent,
            labelled=True,
            split_file=config.split_file,
            training=training,
        )
    except DataError as error:
        if split == VAL:
            raise
        return error.what
