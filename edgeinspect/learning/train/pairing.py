"""Two trainings whose models run on one line: a gate, and a segmenter after it.

The second training names the run of the first. Both must see the same frames and the same
split of the same images, or thresholds chosen together would mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets import Dataset, read_split
from edgeinspect.learning.evaluate import resolve_model
from edgeinspect.learning.train.checkpoint import read_run_identity
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.storage.model_store import ModelStore

_SPLIT_FILE = "split.json"


@dataclass(frozen=True, slots=True)
class PairedRun:
    """The run of the other model."""

    path: Path
    identity: Mapping[str, Any]
    spec: ModelSpec
    """Of its exported model."""


def open_pair(config: TrainingConfig) -> PairedRun | None:
    """Open the run that `config.pair` names; None without one.

    Raises:
        DataError: It is no run folder.
        UsageError: It is of the same kind, or of another frame than `config` asks for.
        ModelError: It has no exported model.
    """
    if config.pair is None:
        return None
    identity = read_run_identity(config.pair)
    kind = identity["kind"]
    if kind == config.kind:
        other = "segmenter" if kind == "gate" else "gate"
        raise UsageError(
            f"is a training of a {kind}, as this one; a pair is a gate and a segmenter",
            where=f"--pair {config.pair}",
            remedy=f"Give the run of a {other}",
        )
    store, ref = resolve_model(str(config.pair), ModelStore())
    spec = store.resolve(ref)
    if spec.id.name == config.name:
        raise UsageError(
            f"both models would be named {config.name}",
            where=f"--pair {config.pair}",
            remedy="Give this one another --name",
        )
    height, width, channels = spec.shape.dims
    wanted = config.size or (height, width)
    if wanted != (height, width) or (config.channels or channels) != channels:
        raise UsageError(
            f"takes frames of {spec.shape}; this training asks for "
            f"{wanted[0]}x{wanted[1]}x{config.channels or channels}, and both see the same frame",
            where=f"--pair {config.pair}",
            remedy="Leave out --size and --channels: they are those of the pair",
        )
    return PairedRun(config.pair, identity, spec)


def with_pair(config: TrainingConfig) -> TrainingConfig:
    """Return the options with the pair's frame and split, where no others are given.

    Raises:
        DataError, UsageError, ModelError: As `open_pair`.
    """
    pair = open_pair(config)
    if pair is None:
        return config
    height, width, channels = pair.spec.shape.dims
    split_file = config.split_file
    if split_file is None and (pair.path / _SPLIT_FILE).is_file():
        split_file = pair.path / _SPLIT_FILE
    return replace(config, size=(height, width), channels=channels, split_file=split_file)


def read_pair_split(config: TrainingConfig, split_file: Path, data: Dataset) -> Dataset:
    """Return the set with the splits of a file, which may be that of the pair.

    Raises:
        DataError: It is of other images; if it is the pair's, the pair is named, not the file.
    """
    try:
        return read_split(split_file, data)
    except DataError as error:
        if config.pair is None or split_file != config.pair / _SPLIT_FILE:
            raise
        raise DataError(
            f"was not trained on {config.data}: its {_SPLIT_FILE} {error.what}",
            where=f"--pair {config.pair}",
            remedy="Give the run of a training on this --data, or that training's --data here",
        ) from error


def check_pair_data(config: TrainingConfig, data: Dataset, digest: str) -> None:
    """Check that the pair was trained on the same images, labels and split.

    Args:
        config: With the pair.
        data: Of this training, split.
        digest: Of its names, labels and splits, as `run.json` has it.

    Raises:
        DataError: It was trained on others.
    """
    if config.pair is None:
        return
    before = read_run_identity(config.pair)
    remedy = "Train both on the same --data with the same --split-file and --good-class"
    if list(before["classes"]) != list(data.classes):
        raise DataError(
            f"was trained on the classes {', '.join(before['classes'])}; these are "
            f"{', '.join(data.classes)}",
            where=f"--pair {config.pair}",
            remedy=remedy,
        )
    if before.get("data_sha256") != digest:
        raise DataError(
            "was trained on other images, other labels or another split",
            where=f"--pair {config.pair}",
            remedy=remedy,
        )
