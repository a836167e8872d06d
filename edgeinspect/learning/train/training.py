"""One training from a data set to an exported, measured model in a run folder.

RUN/run.json         recipe, data and versions: a run resumes only with the same
RUN/split.json       the split of each image, its group, and a digest of its file
RUN/checkpoint.pt    everything a killed training needs to resume
RUN/curve.csv        loss and validation score by step; curve.svg plots it
RUN/<name>/1/        the exported model, for a store; with a copy of split.json
RUN/line.yaml        a line with this model, and the pair's: see `line_file`
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.domain import Decides
from edgeinspect.learning.datasets import TEST, TRAIN, VAL, SkippedImage, write_split
from edgeinspect.learning.evaluate import SPLIT_FILE_NAME
from edgeinspect.learning.train import architectures, distributed
from edgeinspect.learning.train.allocator import keep_freed_memory
from edgeinspect.learning.train.checkpoint import RunFolder
from edgeinspect.learning.train.data_record import brightness_statistics, dataset_digest
from edgeinspect.learning.train.encoder_networks import EncoderGate
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.frozen_head import fit_frozen_head
from edgeinspect.learning.train.labelled_line import write_labelled_line
from edgeinspect.learning.train.learning_curve import draw_learning_curve
from edgeinspect.learning.train.pairing import with_pair
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.preconditions import check_options
from edgeinspect.learning.train.preparation import PreparedTraining, prepare_training
from edgeinspect.learning.train.progress import StageProgress, StepReport, ignore_progress
from edgeinspect.learning.train.run_identity import describe_data_change, run_identity
from edgeinspect.learning.train.write_version import (
    VersionWriter,
    describe_fit,
    export_gate,
    export_segmenter,
)
from edgeinspect.system import TEXT_BYTES_MAX, claim_folder, read_regular


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training wrote and measured."""

    accuracy: dict[str, Any]
    """On the test split, measured with the exported graph; empty without one."""
    line: Path | None
    """The line file; None for a gate that has learned from no good image."""
    has_masks: bool
    """Of the data set: a segmenter can be trained on it."""
    has_test: bool
    """The data set has a test split."""


def train_model(
    config: TrainingConfig,
    on_progress: StageProgress = ignore_progress,
    on_left_out: Callable[[Sequence[SkippedImage]], None] = lambda left_out: None,
) -> TrainingResult | None:
    """Train, export and measure one model; `torchrun` may run it in several processes.

    Args:
        config: What to train.
        on_progress: Called with each image read and each step.
        on_left_out: Called before the first step with the unusable images.

    Returns:
        What was written and measured; None in all processes but the first.

    Raises:
        UsageError, ModelError, MissingExtraError: As `check_options`, before an image is read.
        DataError: Unusable images, a loss that became NaN, or another run in the folder.
        OutputError: The folder holds another training, another process trains into it, or the
            disk is full.
    """
    distributed.set_thread_count(config.threads)
    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.process_group())
        check_options(config)
        config = with_pair(config)
        if distributed.rank() == 0:  # for all processes of this training
            stack.enter_context(claim_folder(config.out))
        prepared = prepare_training(config, on_progress)
        on_left_out(prepared.left_out)
        started = time.monotonic()
        average = _fit_network(config, prepared, on_progress)
        if distributed.rank() != 0:
            return None
        return _export_and_measure(config, prepared, average, started, on_progress)


def _fit_network(
    config: TrainingConfig, prepared: PreparedTraining, on_progress: StageProgress
) -> nn.Module:
    recipe = prepared.recipe
    folder = RunFolder(config.out)
    state = None
    if distributed.rank() == 0:
        state = folder.start_or_resume(
            run_identity(config, prepared),
            resume=config.resume,
            describe_data_change=lambda: describe_data_change(config.out, prepared),
        )
        write_split(
            config.out / SPLIT_FILE_NAME,
            prepared.data,
            config.seed,
            replaces=True,
            digests=prepared.digests,
        )
    if distributed.process_count() > 1:
        torch.distributed.barrier()
        if distributed.rank() != 0 and folder.checkpoint.exists():
            state = folder.load()
    report = StepReport(on_progress, recipe)
    report.start(state.step if state else 0)
    return fit(
        prepared.net,
        prepared.task,
        prepared.images[TRAIN],
        recipe,
        validation=prepared.images[VAL],
        run_folder=folder,
        state=state,
        initialise=lambda: _prepare_head(prepared, config.seed, on_progress),
        progress=report,
    )


def _prepare_head(prepared: PreparedTraining, seed: int, on_progress: StageProgress) -> None:
    """Fit the classifier of a gate on the frozen features of its pretrained encoder."""
    net = prepared.net
    if isinstance(net, EncoderGate) and net.body.adapt.has_fixed_statistics:
        fit_frozen_head(
            net,
            prepared.images[TRAIN],
            prepared.images[VAL],
            seed,
            flips=prepared.recipe.augment.flip_x,
            progress=lambda done, total: on_progress("frozen features", done, total, 0.0),
        )


def _export_and_measure(
    config: TrainingConfig,
    prepared: PreparedTraining,
    average: nn.Module,
    started: float,
    on_progress: StageProgress,
) -> TrainingResult:
    images, recipe = prepared.images, prepared.recipe
    fit_record = describe_fit(average, recipe, started)
    draw_learning_curve(config.out)
    run = {
        "run": f"{config.name}-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{config.data.name}, {len(images[TRAIN])} images",
        "data_sha256": dataset_digest(prepared.data),
        "architecture": prepared.architecture,
        **fit_record,
        "bits": prepared.data.bit_depth,
        "statistics": brightness_statistics(images[TRAIN]),
    }
    if weights := architectures.pretrained_weights(prepared.architecture, config.weights):
        run |= {"pretrained": weights.name, "pretrained_sha256": weights.sha256}
    is_gate = config.kind == "gate"
    classes = ("defect",) if is_gate and not prepared.kinds else prepared.data.classes
    samples = images[VAL].images[:4]
    writer = VersionWriter(
        average,
        config.name,
        config.out,
        classes,
        run,
        samples,
        decides=prepared.decides,
        split=read_regular(config.out / SPLIT_FILE_NAME, TEXT_BYTES_MAX),
    )
    export = export_gate if is_gate else export_segmenter
    accuracy = export(writer, images[VAL], images.get(TEST), on_progress)
    if prepared.decides is Decides.KINDS:  # no line can run it: it rejects everything
        return TrainingResult(accuracy, None, has_masks=False, has_test=TEST in images)
    line = write_labelled_line(
        config, writer.folder, prepared.data, images, prepared.stride, on_progress
    )
    return TrainingResult(
        accuracy={**accuracy, "line": line.measured} if line.measured else accuracy,
        line=line.path,
        has_masks=prepared.data.has_masks,
        has_test=line.measured is not None,
    )
