"""Trains a good-parts model: from a folder of good images to a measured version in a run folder.

RUN/run.json         settings, data and versions
RUN/split.json       the split of each image
RUN/checkpoint.pt    the memory bank
RUN/held_out.csv     the score of each good image by a bank that had not seen it
RUN/<name>/1/        the exported model, for a store
RUN/line.yaml        a line with the model
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets import (
    ImageArrays,
    SkippedImage,
    write_split,
)
from edgeinspect.learning.evaluate import SPLIT_FILE_NAME
from edgeinspect.learning.train import distributed
from edgeinspect.learning.train.anomaly.anomaly_map import AnomalyMap, image_score
from edgeinspect.learning.train.anomaly.cell_features import CellFeatures, choose_cell_px
from edgeinspect.learning.train.anomaly.cell_method import MethodDecision, decide_method
from edgeinspect.learning.train.anomaly.config import AnomalyConfig
from edgeinspect.learning.train.anomaly.export import VersionInputs, export_version
from edgeinspect.learning.train.anomaly.false_rejects import ThresholdChoice, choose_threshold
from edgeinspect.learning.train.anomaly.feature_runner import FeatureRunner
from edgeinspect.learning.train.anomaly.good_cells import collect_good_cells
from edgeinspect.learning.train.anomaly.held_out import (
    MAX_SCORED,
    HeldOutScores,
    assign_folds,
    score_held_out,
)
from edgeinspect.learning.train.anomaly.images import (
    MIN_GOOD_IMAGES,
    AnomalyImages,
    load_images,
)
from edgeinspect.learning.train.anomaly.line import write_good_parts_line
from edgeinspect.learning.train.anomaly.orientation import TurnedDecision, decide_turned
from edgeinspect.learning.train.checkpoint import GOOD_PARTS, RunFolder, TrainingState, write_file
from edgeinspect.learning.train.data_record import brightness_statistics, dataset_digest
from edgeinspect.learning.train.encoders import (
    NO_WEIGHTS,
    Encoder,
    PretrainedWeights,
    build_encoder,
    find_pretrained,
    load_encoder,
)
from edgeinspect.learning.train.progress import StageProgress, ignore_progress
from edgeinspect.system import check_unclaimed, claim_folder

MAX_BANK_IMAGES = 2000
"""More good images than this are sampled: the bank's candidates come from these."""


@dataclass(frozen=True, slots=True)
class TrainedBank:
    """What a training has chosen and measured before the export."""

    features: CellFeatures
    anomaly_map: AnomalyMap
    entries: int
    turned: TurnedDecision
    method: MethodDecision
    held_out: HeldOutScores
    choice: ThresholdChoice


@dataclass(frozen=True, slots=True)
class TrainedGoodParts:
    """What a training has written."""

    accuracy: dict[str, Any]
    """In the manifest: of the threshold, and of the test split if there is one."""
    line: Path


def train_good_parts(
    config: AnomalyConfig,
    on_progress: StageProgress = ignore_progress,
    on_left_out: Callable[[Sequence[SkippedImage]], None] = lambda left_out: None,
    on_notes: Callable[[Sequence[str]], None] = lambda notes: None,
) -> TrainedGoodParts:
    """Train, export and measure one good-parts model.

    Args:
        config: What to train.
        on_progress: Called with each image of each stage.
        on_left_out: Called with the unusable images, before the features are computed.
        on_notes: Called then with what was assumed of the images, and what is odd about them.

    Returns:
        The accuracy in its manifest, and the file of a line with it.

    Raises:
        UsageError: There is no such encoder, or it has no pretrained weights.
        MissingExtraError: The package with the weights is not installed.
        ModelError: The weights are of another network.
        DataError: Too few good images, or unusable ones.
        OutputError: There is a training in the folder, another process trains into it, or the
            disk is full.
    """
    started = time.monotonic()
    distributed.set_thread_count(config.threads)
    check_new_run(config)
    encoder, weights = open_encoder(config)
    with claim_folder(config.out):
        images = load_images(config, on_progress)
        on_left_out(images.left_out)
        on_notes(images.data.notes)
        return _train_into_folder(config, images, encoder, weights, on_progress, started)


def _train_into_folder(
    config: AnomalyConfig,
    images: AnomalyImages,
    encoder: Encoder,
    weights: PretrainedWeights | None,
    on_progress: StageProgress,
    started: float,
) -> TrainedGoodParts:
    channels = int(images.good.images.shape[3])
    run = RunFolder(config.out)
    identity = _run_identity(config, images, weights)
    run.start_or_resume(identity, resume=False)
    write_split(
        config.out / SPLIT_FILE_NAME,
        images.data,
        config.seed,
        replaces=True,
        digests=images.digests,
    )
    cell_px = choose_cell_px(*images.good.images.shape[1:3])
    features = CellFeatures(encoder, channels, cell_px)
    bank = _train_bank(config, images, features, on_progress)
    _save_bank(run, bank, images)
    record = {
        "run": f"{config.name}-seed{config.seed}",
        "data": f"{config.data.name}, {len(images.good)} good images",
        "data_sha256": identity["data_sha256"],
        "architecture": f"memory bank on {config.encoder}",
        "entries": bank.entries,
        "cell_px": cell_px,
        "turned": bank.turned.to_document(),
        "method": bank.method.method.name,
        "seed": config.seed,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "threads": config.threads,
        "torch": str(torch.__version__),
        "bits": images.data.bit_depth,
        "statistics": brightness_statistics(images.good),
    }
    accuracy = export_version(
        VersionInputs(
            features=bank.features,
            anomaly_map=bank.anomaly_map,
            choice=bank.choice,
            held_out=bank.held_out,
            method=bank.method,
            name=config.name,
            root=config.out,
            class_name=config.class_name,
            run=record,
            weights=weights,
        ),
        images,
        on_progress,
    )
    return TrainedGoodParts(accuracy, write_good_parts_line(config, images, bank.choice))


def check_new_run(config: AnomalyConfig) -> None:
    """Check that the run folder holds no training yet.

    Raises:
        OutputError: It does, or another process trains into it.
    """
    check_unclaimed(config.out)
    if RunFolder(config.out).checkpoint.exists():
        raise OutputError(
            "holds a training already", where=str(config.out), remedy="Give another --out"
        )


def open_encoder(config: AnomalyConfig) -> tuple[Encoder, PretrainedWeights | None]:
    """Build the encoder and load its weights, before any image is read.

    Raises:
        UsageError: There is no such encoder, or no weights for it.
        MissingExtraError: The package with the weights is not installed.
        ModelError: The file is of another network.
    """
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder)
    weights = find_pretrained(config.encoder, config.weights)
    if weights is None and config.weights != NO_WEIGHTS:
        raise UsageError(
            f"no package ships weights for '{config.encoder}', and random features tell nothing",
            where="--weights",
            remedy="Name a .pth of this encoder, or leave --arch out",
        )
    if weights is not None:
        load_encoder(encoder, weights)
    return encoder, weights


def _train_bank(
    config: AnomalyConfig, images: AnomalyImages, features: CellFeatures, on_progress: StageProgress
) -> TrainedBank:
    good = images.good
    black = sum(not image.any() for image in good.images)
    if len(good) - black < MIN_GOOD_IMAGES:
        raise DataError(
            f"has {black} black images of {len(good)}",
            where=str(config.data),
            remedy="Check exposure and trigger of the camera; remove black images",
        )
    runner = FeatureRunner(features, good.images, config.threads)
    on_progress("encoder", 1, 1, 0.0)  # ONNX Runtime has it: seconds without a step
    numbers = _sample_numbers(len(good), MAX_BANK_IMAGES, config.seed)
    turned = decide_turned(
        runner,
        numbers,
        config.entries,
        config.turned,
        lambda done, total: on_progress("orientations", done, total, 0.0),
    )
    validation = images.validation
    defective = [] if validation is None else list(validation.images[validation.defective])
    method = decide_method(
        runner,
        numbers,
        defective,
        config.entries,
        turned=turned.is_turned,
        on_progress=lambda done, total: on_progress("method", done, total, 0.0),
    )
    cells = collect_good_cells(
        runner,
        numbers,
        turned=turned.is_turned,
        method=method.method,
        on_image=lambda done: on_progress("features", done, len(numbers), 0.0),
    )
    scored = _sample_numbers(len(numbers), MAX_SCORED, config.seed + 1)
    folds = assign_folds([images.groups[numbers[place]] for place in scored], config.seed)
    folds = [[numbers[scored[place]] for place in fold] for fold in folds]
    held_out = score_held_out(
        runner,
        cells,
        folds,
        config.entries,
        lambda stage, done, total: on_progress(stage, done, total, 0.0),
    )
    anomaly_map = cells.build_map(config.entries)
    defective = _score_defective(runner, anomaly_map, images.validation, on_progress)
    choice = choose_threshold(held_out.scores, config.false_rejects, defective)
    entries = sum(len(chunk.weight) for chunk in anomaly_map.bank.chunks)
    return TrainedBank(features, anomaly_map, entries, turned, method, held_out, choice)


def _score_defective(
    runner: FeatureRunner,
    anomaly_map: AnomalyMap,
    validation: ImageArrays | None,
    on_progress: StageProgress,
) -> list[float]:
    if validation is None:
        return []
    numbers = np.flatnonzero(validation.defective)
    scores = []
    for done, number in enumerate(numbers, 1):
        with torch.no_grad():
            values = anomaly_map(*runner.of_frame(np.asarray(validation.images[number])))
            scores.append(float(image_score(values)))
        on_progress("defective", done, len(numbers), 0.0)
    return scores


def _sample_numbers(count: int, most: int, seed: int) -> list[int]:
    """Return the numbers below `count` in order, or `most` of them at random."""
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:most].tolist())


def _save_bank(run: RunFolder, bank: TrainedBank, images: AnomalyImages) -> None:
    lines = ["image,score"]
    for number, score in zip(bank.held_out.images, bank.held_out.scores, strict=True):
        name = str(images.good.names[number]).replace('"', '""')
        lines.append(f'"{name}",{score:.5f}')
    write_file(run.path / "held_out.csv", ("\n".join(lines) + "\n").encode("utf-8", "replace"))
    run.save(TrainingState(net=bank.anomaly_map.state_dict(), done=True))


def _run_identity(
    config: AnomalyConfig, images: AnomalyImages, weights: PretrainedWeights | None
) -> dict[str, Any]:
    height, width, channels = images.good.images.shape[1:]
    return {
        "kind": GOOD_PARTS,
        "name": config.name,
        "architecture": config.encoder,
        "weights": weights.sha256 if weights else None,
        "entries": config.entries,
        "false_rejects": config.false_rejects,
        "turned": config.turned,
        "seed": config.seed,
        "frame": {"height_px": height, "width_px": width, "channels": channels},
        "data_sha256": dataset_digest(images.data),
        "classes": [config.class_name],
        "left_out": [{"name": one.name, "why": one.reason} for one in images.left_out],
        "notes": list(images.data.notes),
        "threads": config.threads,
        "torch": str(torch.__version__),
    }
