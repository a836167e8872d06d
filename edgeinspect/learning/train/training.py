"""A whole training: a data set in; a run folder with a checked, measured model out.

RUN/run.json         recipe, data and versions: a run goes on only with the same
RUN/split.json       which image was in which split
RUN/checkpoint.pt    everything a killed training needs to go on
RUN/curve.csv        loss and validation score by step; curve.svg shows it
RUN/<name>/1/        the exported model, for a store
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    ImageArrays,
    SkippedImage,
    common_size,
    has_class,
    infer_channels,
    load_arrays,
    open_dataset,
    read_split,
    split_dataset,
    write_split,
)
from edgeinspect.learning.train import architectures, distributed
from edgeinspect.learning.train.checkpoint import RunFolder, load_state_into, read_run_identity
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.learning_curve import draw_learning_curve
from edgeinspect.learning.train.networks import count_parameters
from edgeinspect.learning.train.plan import TrainingConfig, default_recipe, output_stride
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, TrainingTask
from edgeinspect.learning.train.write_version import StageProgress, export_gate, export_segmenter
from edgeinspect.system import sha256_of


def train_model(
    config: TrainingConfig,
    on_progress: StageProgress = lambda stage, done, total, loss: None,
    on_left_out: Callable[[Sequence[SkippedImage]], None] = lambda left_out: None,
) -> dict[str, Any]:
    """Train, export and measure one model; `torchrun` may run it in several processes.

    Args:
        plan: What to train.
        report: Told how far it is.
        tell: Given, before the first step, the images that are left out and why.

    Returns:
        The figures on the test split, from the exported graph; empty in all processes but
        the first.

    Raises:
        DataError: Unusable images, a loss that became NaN, or a run of another kind there.
        StorageError: The disk is full.
    """
    distributed.set_thread_count(config.threads)
    with distributed.process_group():
        prepared = prepare_training(config, on_progress)
        on_left_out(prepared.left_out)
        average, minutes = _fit_network(config, prepared, on_progress)
        if distributed.rank() != 0:
            return {}
        return _export_and_measure(config, prepared, average, minutes, on_progress)


_MORE_IMAGES_REMEDY = (
    "Give more pictures, or a split of your own with --split (see: edgeinspect data split)"
)


@dataclass(frozen=True, slots=True)
class PreparedTraining:
    """What a training works on."""

    data: Dataset
    pictures: dict[str, ImageArrays]
    """By split."""
    recipe: Recipe
    net: nn.Module
    task: TrainingTask
    architecture: str
    stride: int
    """Of the class map; 1 for a gate."""
    ignore_black: bool
    """Whether letterboxing leaves black bands around some image."""
    left_out: tuple[SkippedImage, ...] = ()
    """Images that are not trained or measured on, and why."""


def prepare_training(config: TrainingConfig, on_progress: StageProgress) -> PreparedTraining:
    """Open the set, split it, decode it, build the network."""
    data = open_dataset(config.data, config.layout, good_classes=config.good)
    if config.split_file is not None:
        data = read_split(config.split_file, data)
    else:
        data = split_dataset(data, config.seed)
    size = config.size or common_size(data)
    channels = config.channels or infer_channels(data)
    pictures = {
        name: load_arrays(
            data,
            data.in_splits(name),
            height_px=size[0],
            width_px=size[1],
            channels=channels,
            cache=config.out / "cache",
            progress=lambda done, name=name: on_progress(  # type: ignore[misc]
                f"read {name}", done, len(data.in_splits(name)), 0.0
            ),
        )
        for name in (TRAIN, VAL, TEST)
        if data.in_splits(name)
    }
    left_out = (*data.skipped, *(one for part in pictures.values() for one in part.skipped))
    for name in (TRAIN, VAL):
        if name not in pictures or not len(pictures[name]):
            raise DataError(
                f"has no picture in split '{name}'",
                where=str(config.data),
                remedy=_MORE_IMAGES_REMEDY,
            )
    if config.kind == "gate":
        _check_both_labels(config, pictures)
    part = pictures[TRAIN]
    stride = output_stride(config, size)
    recipe = default_recipe(
        config,
        size,
        has_masks=has_class(part.masks),
        has_good=not bool(part.defective.all()),
        stride=stride,
    )
    torch.manual_seed(config.seed)
    if config.kind == "gate":
        architecture = config.architecture or "small"
        padded = _has_black_borders(part.images)
        gate = architectures.build_gate(
            architecture, channels=channels, weights=config.weights, ignore_black=padded
        )
        task: TrainingTask = GateTask(part)
        return PreparedTraining(
            data, pictures, recipe, gate, task, architecture, 1, padded, left_out
        )
    architecture = config.architecture or "resunet-0.8m"
    task = SegmenterTask(part, stride, recipe.loss)
    segmenter = architectures.build_segmenter(
        architecture, len(data.classes), channels=channels, stride=stride, weights=config.weights
    )
    return PreparedTraining(
        data, pictures, recipe, segmenter, task, architecture, stride, False, left_out
    )


def _check_both_labels(config: TrainingConfig, pictures: dict[str, ImageArrays]) -> None:
    """A gate learns, chooses its thresholds and is measured on good and defective images.

    Raises:
        DataError: A split lacks one of them.
    """
    for name, part in pictures.items():
        for kind, there in (("defective", part.defective.any()), ("good", (~part.defective).any())):
            if len(part) and not there:
                raise DataError(
                    f"has no {kind} picture in split '{name}', and a gate needs both",
                    where=str(config.data),
                    remedy=_MORE_IMAGES_REMEDY,
                )


def _has_black_borders(images: NDArray[np.uint8]) -> bool:
    """Whether letterboxing left black bands in more than one image of a hundred."""
    black = 0
    for image in images:
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        black += any(not edge.any() for edge in edges)
    return black > len(images) / 100


def _fit_network(
    config: TrainingConfig, prepared: PreparedTraining, on_progress: StageProgress
) -> tuple[nn.Module, float]:
    recipe = prepared.recipe
    folder = RunFolder(config.out)
    state = None
    if distributed.rank() == 0:
        state = folder.start_or_resume(_run_identity(config, prepared), resume=config.resume)
        write_split(config.out / "split.json", prepared.data, config.seed)
    if distributed.process_count() > 1:
        torch.distributed.barrier()
        if distributed.rank() != 0 and folder.checkpoint.exists():
            state = folder.load()
    began = time.monotonic()
    average = fit(
        prepared.net,
        prepared.task,
        prepared.pictures[TRAIN],
        recipe,
        validation=prepared.pictures[VAL],
        run_folder=folder,
        state=state,
        progress=lambda step, loss, best: on_progress(config.kind, step, recipe.steps, loss),
    )
    return average, (time.monotonic() - began) / 60


def _export_and_measure(
    config: TrainingConfig,
    prepared: PreparedTraining,
    average: nn.Module,
    minutes: float,
    on_progress: StageProgress,
) -> dict[str, Any]:
    pictures, recipe = prepared.pictures, prepared.recipe
    draw_learning_curve(config.out)
    run = {
        "run": f"{config.name}-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{config.data.name}, {len(pictures[TRAIN])} pictures",
        "data_sha256": _dataset_digest(prepared.data),
        "architecture": prepared.architecture,
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": count_parameters(average),
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "bits": prepared.data.bit_depth,
        "statistics": _brightness_statistics(pictures[TRAIN]),
    }
    samples = pictures[VAL].images[:4]
    test = pictures.get(TEST)
    if config.kind == "gate":
        return export_gate(
            average, config.name, config.out, run, samples, pictures[VAL], test, on_progress
        )
    return export_segmenter(
        average, config.name, config.out, run, samples, prepared.data.classes, test, on_progress
    )


def _brightness_statistics(pictures: ImageArrays) -> dict[str, Any]:
    """Deciles of brightness and contrast: a calibration holds its frames against them."""
    values = np.array([(image.mean(), image.std()) for image in pictures.images])
    found = np.quantile(values, np.linspace(0.1, 0.9, 9), axis=0)
    return {
        "pictures": len(values),
        **{
            name: [round(float(each), 5) for each in found[:, column]]
            for column, name in enumerate(("brightness", "contrast"))
        },
    }


def _run_identity(config: TrainingConfig, prepared: PreparedTraining) -> dict[str, Any]:
    height, width = prepared.pictures[TRAIN].masks.shape[1:]
    return {
        "kind": config.kind,
        "name": config.name,
        "architecture": prepared.architecture,
        "stride": prepared.stride,
        "ignore_black": prepared.ignore_black,
        "weights": sha256_of(config.weights) if config.weights else None,
        "recipe": prepared.recipe.to_document(),
        "frame": {
            "height_px": height,
            "width_px": width,
            "channels": prepared.pictures[TRAIN].images.shape[3],
        },
        "data_sha256": _dataset_digest(prepared.data),
        "classes": list(prepared.data.classes),
        "left_out": [{"name": one.name, "why": one.reason} for one in prepared.left_out],
        "processes": distributed.process_count(),
        "threads": config.threads,
        "torch": str(torch.__version__),
    }


def _dataset_digest(data: Dataset) -> str:
    """Of names, labels and splits; not of pixels, which may be many gigabytes."""
    digest = hashlib.sha256()
    for record in data.samples:
        digest.update(f"{record.name}\0{int(record.is_defective)}\0{record.split}\n".encode())
    return digest.hexdigest()


def load_run(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The averaged network of a run folder, and its `run.json`.

    Raises:
        DataError: It is no run folder, or its checkpoint cannot be read or is of another network.
    """
    identity = read_run_identity(path)
    folder = RunFolder(path)
    state = folder.load()
    frame = identity["frame"]
    if identity["kind"] == "gate":
        net = architectures.build_gate(
            identity["architecture"],
            channels=frame["channels"],
            ignore_black=identity["ignore_black"],
        )
    else:
        net = architectures.build_segmenter(
            identity["architecture"],
            len(identity["classes"]),
            channels=frame["channels"],
            stride=identity["stride"],
        )
    load_state_into(net, state.best or state.average, folder.checkpoint)
    return net.eval(), identity
