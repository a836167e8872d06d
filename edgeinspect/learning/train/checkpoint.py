"""The run folder of a training: identity, state and learning curve, replaced atomically."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import nn

from edgeinspect.errors import DataError, OutputError
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    DecodeError,
    TableWriter,
    atomic_file,
    check_regular,
    decode_json,
    read_regular,
    write_atomic,
)

_MAX_SIDE_PX = 65_535
_MAX_CLASSES = 4096
GOOD_PARTS = "good-parts"
"""The `kind` in the `run.json` of a training from good parts."""
_IN_WORDS = ("weights", "left_out")
"""Of an identity: hashes and lists, whose values say nothing to a reader."""


class RunFrame(msgspec.Struct, frozen=True):
    """The frame of a run's network."""

    height_px: Annotated[int, Meta(ge=1, le=_MAX_SIDE_PX)]
    width_px: Annotated[int, Meta(ge=1, le=_MAX_SIDE_PX)]
    channels: Literal[1, 3]


class RunNetwork(msgspec.Struct, frozen=True):
    """The part of `run.json` that a network is built from."""

    kind: Literal["gate", "segmenter"]
    name: str
    architecture: str
    stride: Literal[1, 2, 4]
    classes: Annotated[tuple[str, ...], Meta(max_length=_MAX_CLASSES)]
    frame: RunFrame
    ignore_black: bool | None = None
    """Of a gate; absent for segmenters."""
    kinds: Annotated[int, Meta(ge=0, le=_MAX_CLASSES)] = 0
    """Of a gate that tells kinds of defects apart: how many."""
    decides: Literal["defects", "kinds"] = "defects"


def read_run_identity(path: Path) -> dict[str, Any]:
    """Read the `run.json` of a run folder and validate its `RunNetwork` part.

    Raises:
        DataError: It is not a run folder, or its `run.json` is not of a gate or a segmenter.
    """
    remedy = "Give the --out of a training"
    file = path / "run.json"
    try:
        data = read_regular(file, TEXT_BYTES_MAX)
        identity = decode_json(data, dict[str, Any])
    except (OSError, DecodeError) as error:
        raise DataError("is no run folder", where=str(path), remedy=remedy) from error
    if identity.get("kind") == GOOD_PARTS:
        raise DataError(
            "is a training from good parts, which is neither a gate nor a segmenter",
            where=str(path),
            remedy="Give the --out of `edgeinspect train gate` or `train segmenter`",
        )
    try:
        network = decode_json(data, RunNetwork)
    except DecodeError as error:
        raise DataError(f"is not of a training: {error}", where=str(file), remedy=remedy) from error
    if network.kind == "gate" and network.ignore_black is None:
        raise DataError(
            "is not of a training: a gate without `ignore_black`", where=str(file), remedy=remedy
        )
    return identity


def load_state_into(
    target: nn.Module | torch.optim.Optimizer, stored: dict[str, Any], checkpoint: Path | None
) -> None:
    """Load a state dict of a checkpoint.

    Raises:
        DataError: It is of another network.
    """
    try:
        target.load_state_dict(stored)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"is of another network than run.json: {' '.join(str(error).split())[:200]}",
            where=str(checkpoint or ""),
            remedy="Restore the checkpoint of this run, or train again into another folder",
        ) from error


@dataclass(slots=True)
class TrainingState:
    """Everything a training needs to resume; randomness depends on the step alone."""

    step: int = 0
    """Steps done."""
    net: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    """Averaged weights with the best validation score; empty before the first validation."""
    best_score: float = float("-inf")
    looks_since_best: int = 0
    """Validations since the best one."""
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    """(step, loss, learning rate, score or NaN)."""
    done: bool = False


class RunFolder:
    """The folder of one training: `run.json`, `checkpoint.pt`, `curve.csv`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """The file of the state."""
        return self.path / "checkpoint.pt"

    def start_or_resume(
        self,
        identity: Mapping[str, Any],
        *,
        resume: bool,
        describe_data_change: Callable[[], str] = lambda: "",
    ) -> TrainingState:
        """Create the folder, or load the state in it.

        Args:
            identity: Recipe, data and versions; a run resumes only with the same.
            resume: Whether an existing training may be resumed.
            describe_data_change: Called if the data is another; returns what changed in it.

        Raises:
            OutputError: There is a training already (without `resume`).
            DataError: There is one with another identity.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "run.json"
        text = json.dumps(identity, indent=2, sort_keys=True, default=str)
        if file.exists() and self.checkpoint.exists():
            if not resume:
                raise OutputError(
                    "holds a training already",
                    where=str(self.path),
                    remedy="Give --resume to resume it, or another --out",
                )
            before = _read_identity(file)
            before.setdefault("left_out", identity.get("left_out"))  # absent in older runs
            now = decode_json(text, dict[str, Any])
            if before.get("data_sha256") != now.get("data_sha256"):
                what = describe_data_change() or "their names, labels or splits are not the same"
                raise DataError(
                    f"was started with other images: {what}",
                    where=str(self.path),
                    remedy="Restore the data set and the options that choose its images, labels "
                    "and split, or give another --out",
                )
            if changed := describe_changes(before, now):
                raise DataError(
                    f"was started with other settings: {'; '.join(changed[:5])}",
                    where=str(self.path),
                    remedy="Give the same ones, or another --out",
                )
            return self._resume()
        write_file(file, text.encode())
        return TrainingState()

    def load(self) -> TrainingState:
        """Load the checkpoint.

        Raises:
            DataError: It cannot be read, or holds something else.
        """
        try:
            loaded = torch.load(
                check_regular(self.checkpoint), map_location="cpu", weights_only=True
            )
            return _validated(TrainingState(**loaded))
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise DataError(
                _why_unreadable(self.checkpoint, error),
                where=str(self.checkpoint),
                remedy="Restore it from a copy, or train again into another folder",
            ) from error

    def _resume(self) -> TrainingState:
        """Load the checkpoint and rewrite `curve.csv` from it."""
        state = self.load()
        try:
            self._write_curve(state)
        except OSError as error:
            raise _cannot_write(self.path / "curve.csv", error) from error
        return state

    def save(self, state: TrainingState) -> None:
        """Write the checkpoint; the previous one stays until the new one is complete.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        try:
            with atomic_file(self.checkpoint, durable=True) as file:
                torch.save({name: getattr(state, name) for name in TrainingState.__slots__}, file)
            self._write_curve(state)
        except (OSError, RuntimeError) as error:
            raise _cannot_write(self.checkpoint, error) from error

    def _write_curve(self, state: TrainingState) -> None:
        table = io.StringIO(newline="")
        writer = TableWriter(table, "\r\n")
        writer.writerow(["step", "loss", "learning_rate", "validation_score"])
        writer.writerows(
            (step, _cell(loss), f"{rate:.3g}", _cell(score))
            for step, loss, rate, score in state.curve
        )
        write_atomic(self.path / "curve.csv", table.getvalue().encode())


def _why_unreadable(checkpoint: Path, error: Exception) -> str:
    """Return what is wrong with a checkpoint; torch says "Invalid argument" if it was cut off."""
    try:
        size, is_archive = checkpoint.stat().st_size, zipfile.is_zipfile(checkpoint)
    except OSError:
        is_archive = True
    if not is_archive:
        return f"cannot be read: it is damaged, or was cut off after {size} bytes"
    return f"cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"


def _cell(value: float) -> str:
    return "" if value != value else f"{value:.5f}"


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    try:
        write_atomic(path, data, durable=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> OutputError:
    return OutputError(
        f"cannot be written: {error}",
        where=str(path),
        remedy="Free disk space, then resume with --resume",
    )


def _validated(state: TrainingState) -> TrainingState:
    kinds: dict[str, type | tuple[type, ...]] = {
        "step": int,
        "net": dict,
        "average": dict,
        "optimizer": dict,
        "best": dict,
        "best_score": (int, float),
        "looks_since_best": int,
        "curve": list,
        "done": bool,
    }
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(state, name), kind)]
    if wrong or state.step < 0:
        raise TypeError(f"it is no state of a training: {', '.join(wrong) or 'step'}")
    curve: list[Any] = state.curve
    for row in curve:
        if len(row) != 4 or not all(isinstance(value, int | float) for value in row):
            raise TypeError("it is no state of a training: curve")
    return state


def _read_identity(file: Path) -> dict[str, Any]:
    try:
        return decode_json(read_regular(file, TEXT_BYTES_MAX), dict[str, Any])
    except (OSError, DecodeError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(file), remedy="Train into another folder"
        ) from error


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences of two identities of a training in words, without bare hashes."""
    changed = []
    if before.get("weights") != now.get("weights"):
        kinds = [
            "with pretrained weights" if each.get("weights") else "without"
            for each in (before, now)
        ]
        changed.append(
            f"it was started {kinds[0]}, and this is {kinds[1]}"
            if kinds[0] != kinds[1]
            else "the pretrained weights are another file"
        )
    if before.get("left_out") != now.get("left_out"):
        counts = [len(each.get("left_out") or ()) for each in (before, now)]
        changed.append(f"{counts[0]} images were left out, now {counts[1]}; run.json lists them")
    return [*changed, *list_changes(_without_words(before), _without_words(now))]


def _without_words(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key not in _IN_WORDS}


def list_changes(before: Any, now: Any, path: str = "") -> list[str]:
    """Return the differences of two documents, as `recipe.steps was 5, is 6`."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            change
            for key in sorted(before.keys() | now.keys())
            for change in list_changes(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path} was {before!r}, is {now!r}"]
