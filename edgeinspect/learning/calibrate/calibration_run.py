"""The model and frames of one calibration, and each step that needs several of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError
from edgeinspect.learning.calibrate import sampling
from edgeinspect.learning.calibrate.acceptance import AcceptanceResult, evaluate_acceptance
from edgeinspect.learning.calibrate.calibration_id import PLACEMENT_RULES_VERSION
from edgeinspect.learning.calibrate.checkpoint import CalibrationCheckpoint, ProgressCallback
from edgeinspect.learning.calibrate.config import DEFAULT_SENSITIVITY_FRAMES, CalibrationConfig
from edgeinspect.learning.calibrate.frame_statistics import (
    check_frame_statistics,
    deciles,
    describe_drift,
    reference_statistics,
)
from edgeinspect.learning.calibrate.frames import FrameSet, count_training_images, open_frames
from edgeinspect.learning.calibrate.layer_sensitivity import (
    SensitivityReport,
    measure_layer_sensitivity,
)
from edgeinspect.learning.calibrate.parent_graph import prepare_graph
from edgeinspect.learning.calibrate.qdq_placement import insert_qdq, plan_qdq
from edgeinspect.learning.calibrate.sampling import FrameMetrics, defect_score, informative_frames
from edgeinspect.learning.calibrate.sessions import (
    default_backend,
    open_engine,
    write_temporary_model,
)
from edgeinspect.learning.calibrate.thresholds import (
    FrameScores,
    ThresholdChoice,
    choose_thresholds,
    keep_thresholds,
    measure_scores,
)
from edgeinspect.learning.datasets import TEST, TRAIN, VAL
from edgeinspect.learning.evaluate import TrainingKnowledge, training_knowledge, training_note

_SYNTHETIC_PREFIX = "strip:"


class CalibrationRun:
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
