"""What can be refused before an image is read: names, weights, settings, folders, labels.

Each refusal comes within the first second; reading the images may take minutes.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets import SPLITS, TRAIN, Dataset
from edgeinspect.learning.train import architectures, defaults, distributed
from edgeinspect.learning.train.checkpoint import RunFolder, describe_changes, read_run_identity
from edgeinspect.learning.train.encoders import is_encoder
from edgeinspect.learning.train.plan import (
    TrainingConfig,
    TrainingFacts,
    default_recipe,
    output_stride,
)
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.system import TEXT_BYTES_MAX, check_unclaimed, decode_json_names, read_regular

_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")
_ANY_SIZE = (512, 512)
"""Stands for the frame where it is that of the images: the settings do not depend on it."""


def check_options(config: TrainingConfig) -> None:
    """Check all options of a training that need no image.

    Raises:
        UsageError: A name, size, setting or network that does not exist, or nothing to resume.
        OutputError: `out` holds a training already, another process trains into it, or it is a
            file.
        DataError: The split file is none, or the training in `out` is another one.
        ModelError: The weights cannot be read, or are of another network.
        MissingExtraError: The network needs a package that is not installed.
    """
    _check_name(config.name)
    architecture = config.architecture or defaults.of(config.kind).architecture
    facts = TrainingFacts(
        config.size or _ANY_SIZE,
        train=1,
        validation=1,
        has_masks=True,
        has_good=True,
        has_encoder=is_encoder(architecture),
    )
    recipe = default_recipe(config, facts)
    _check_recipe(recipe)
    if config.size is not None:
        check_frame(config, config.size)
    if config.split_file is not None:
        _check_split_file(config.split_file)
    if distributed.rank() == 0:  # the others would see what it writes
        _check_folder(config)
    build_network(config)


def check_frame(config: TrainingConfig, size: tuple[int, int]) -> None:
    """Check that the class map covers the frame.

    Raises:
        UsageError: The stride does not divide its sides.
    """
    stride = output_stride(config, size) if config.kind == "segmenter" else 1
    height, width = size
    if height % stride or width % stride:
        up = f"{-(-height // stride) * stride}x{-(-width // stride) * stride}"
        raise UsageError(
            f"a frame of {height}x{width} px is not a multiple of the class map's stride, {stride}",
            where="--size",
            remedy=f"Give --size {up}: images are letterboxed to it",
        )


def check_labels(config: TrainingConfig, data: Dataset) -> None:
    """Check that the labels of a data set are of the sort that the network learns.

    What is in the masks is seen when they are read; whether there are any is known before.

    Raises:
        DataError: A segmenter, and no image has a mask.
        UsageError: The set has kinds of defects, and the network cannot tell them apart.
    """
    has_masks = any(sample.mask is not None for sample in data.samples)
    if config.kind == "segmenter":
        if not has_masks:
            has_boxes = any(sample.boxes for sample in data.samples)
            boxes = "--boxes masks fills its boxes; or draw" if has_boxes else "Draw"
            raise DataError(
                "has no masks, which a segmenter is trained on",
                where=str(config.data),
                remedy=f"{boxes} masks, or train a gate: edgeinspect train gate --data "
                + shlex.quote(str(config.data)),
            )
        return
    labels = (each.class_ids for each in data.in_splits(TRAIN) if each.is_defective)
    kinds = {ids for ids in labels if len(ids) == 1}
    is_natural = len(kinds) > 1 and not has_masks
    if is_natural if config.kinds is None else config.kinds:
        architectures.check_tells_kinds(
            config.architecture or defaults.of(config.kind).architecture
        )


def build_network(config: TrainingConfig) -> None:
    """Build the network once, to find a wrong name and wrong weights.

    Raises:
        UsageError, MissingExtraError, ModelError: As `architectures.build_gate`.
    """
    channels = config.channels or 1
    name = config.architecture or defaults.of(config.kind).architecture
    state = torch.random.get_rng_state()
    if config.kind == "gate":
        architectures.build_gate(
            name, channels=channels, weights=config.weights, kinds=2 if config.kinds else 0
        )
    else:
        architectures.build_segmenter(
            name,
            1,
            channels=channels,
            stride=output_stride(config, config.size or _ANY_SIZE),
            weights=config.weights,
        )
    torch.random.set_rng_state(state)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name:.80}' cannot be the name of a model",
            where="--name",
            remedy="Give --name of a-z, 0-9, _ and -, as my-gate; by default it is that of --out",
        )


def _check_split_file(path: Path) -> None:
    """Check the form of a split file; whether it is of these images is seen with the data set."""
    try:
        document = decode_json_names(read_regular(path, TEXT_BYTES_MAX))
        lists = [document["splits"].get(split, []) for split in SPLITS]
        is_split = isinstance(document["names_sha256"], str)
        is_split = is_split and all(isinstance(names, list) for names in lists)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_split(path, f": {error}") from error
    if not is_split:
        raise _no_split(path, "")


def _no_split(path: Path, reason: str) -> DataError:
    return DataError(
        f"is not a split file{reason}",
        where=str(path),
        remedy="Write it with: edgeinspect data split DATASET --out FILE",
    )


def _check_folder(config: TrainingConfig) -> None:
    """Check that `out` may become this training, or holds the one to resume."""
    if config.out.exists() and not config.out.is_dir():
        raise OutputError(
            "is a file; a training writes a folder", where=str(config.out), remedy="Give another"
        )
    if distributed.rank() == 0:  # whose claim is that of the other processes of a training
        check_unclaimed(config.out)
    folder = RunFolder(config.out)
    is_run = (config.out / "run.json").is_file()
    if not config.resume:
        if is_run and folder.checkpoint.exists():
            raise OutputError(
                "holds a training already",
                where=str(config.out),
                remedy="Give --resume to resume it, or another --out",
            )
        return
    if not is_run:
        raise UsageError(
            "there is no training to resume",
            where=str(config.out),
            remedy="Leave out --resume, or give the --out of the training",
        )
    _check_same_training(config, read_run_identity(config.out))
    if folder.checkpoint.exists():
        folder.load()


def _check_same_training(config: TrainingConfig, before: Mapping[str, Any]) -> None:
    """Compare what is known without images with the training to resume."""
    architecture = config.architecture or str(before.get("architecture"))
    weights = architectures.pretrained_weights(architecture, config.weights)
    now: dict[str, Any] = {
        "kind": config.kind,
        "name": config.name,
        "weights": weights.sha256 if weights is not None else None,
        "threads": config.threads,
    }
    if config.architecture is not None:
        now["architecture"] = config.architecture
    if config.stride is not None:
        now["stride"] = config.stride
    recipe = before.get("recipe")
    if isinstance(recipe, dict):
        now["recipe"] = {**recipe, "seed": config.seed}
        if config.steps is not None:
            now["recipe"]["steps"] = config.steps
    changed = describe_changes({key: before.get(key) for key in now}, now)
    if changed:
        raise DataError(
            f"was started with other settings: {'; '.join(changed[:5])}",
            where=str(config.out),
            remedy="Give the same ones, or another --out",
        )


_RATIO: Callable[[float], bool] = lambda value: 0 <= value <= 1  # noqa: E731
_POSITIVE: Callable[[float], bool] = lambda value: value > 0  # noqa: E731
_NOT_NEGATIVE: Callable[[float], bool] = lambda value: value >= 0  # noqa: E731
_LIMITS: tuple[tuple[Callable[[float], bool], str, Sequence[str]], ...] = (
    (_POSITIVE, "must be above 0", ("steps", "batch", "learning_rate", "clip_norm")),
    (_POSITIVE, "must be above 0", ("crop_height_px", "crop_width_px")),
    (
        _RATIO,
        "must be between 0 and 1",
        ("warm_up_ratio", "average_decay", "whole_ratio", "positive_share", "centred_share"),
    ),
    (_NOT_NEGATIVE, "must not be negative", ("weight_decay", "validate_every", "patience")),
)


def _check_recipe(recipe: TrainingRecipe) -> None:
    """Check the ranges of the settings; their names and types are checked where they are read."""
    values = recipe.to_document()
    for is_in_range, words, names in _LIMITS:
        for name in names:
            value = values.get(name)
            if value is None:
                continue
            if not math.isfinite(value) or not is_in_range(value):
                raise UsageError(f"{name}={value} {words}", where="--set")
