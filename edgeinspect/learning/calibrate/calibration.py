"""The calibration workflow: from an FP32 model and frames to an accepted or rejected INT8 model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeinspect.errors import ModelError
from edgeinspect.learning.calibrate import ranges, sampling
from edgeinspect.learning.calibrate.acceptance import AcceptanceResult
from edgeinspect.learning.calibrate.calibration_id import calibration_id, set_metadata
from edgeinspect.learning.calibrate.calibration_run import CalibrationRun
from edgeinspect.learning.calibrate.checkpoint import (
    CalibrationCheckpoint,
    ProgressCallback,
    no_progress,
)
from edgeinspect.learning.calibrate.config import BEST_METHOD, CalibrationConfig
from edgeinspect.learning.calibrate.distance import OutputDistance
from edgeinspect.learning.calibrate.frames import FrameSet
from edgeinspect.learning.calibrate.layer_sensitivity import (
    SensitivityReport,
    exclude_layers,
    layers_in_order,
)
from edgeinspect.learning.calibrate.qdq_placement import QdqPlacement, plan_qdq
from edgeinspect.learning.calibrate.ranges import (
    METHODS,
    ActivationHistogram,
    best_method,
    compare_methods,
)
from edgeinspect.learning.calibrate.sampling import FrameMetrics, FrameSelection
from edgeinspect.system import claim_folder


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
    run = CalibrationRun(config, work, progress)
    with claim_folder(run.checkpoint.folder):
        if not resume:
            run.checkpoint.clear()
        return _calibrate_frames(run)


def _calibrate_frames(run: CalibrationRun) -> CalibrationResult:
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
