"""A training's state on disk: written whole or not at all, so `kill -9` costs only time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from torch import nn

from edgeinspect.errors import DataError, StorageError
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    DecodeError,
    TableWriter,
    check_regular,
    decode_json,
    read_regular,
)

_MAX_SIDE_PX = 65_535
_MAX_CLASSES = 4096


class RunFrame(msgspec.Struct, frozen=True):
    """What the network of a run takes."""

    height_px: Annotated[int, Meta(ge=1, le=_MAX_SIDE_PX)]
    width_px: Annotated[int, Meta(ge=1, le=_MAX_SIDE_PX)]
    channels: Literal[1, 3]


class RunNetwork(msgspec.Struct, frozen=True):
    """What of `run.json` says how to build the network again; the rest is for comparing."""

    kind: Literal["gate", "segmenter"]
    name: str
    architecture: str
    stride: Literal[1, 2, 4]
    classes: Annotated[tuple[str, ...], Meta(max_length=_MAX_CLASSES)]
    frame: RunFrame
    ignore_black: bool | None = None
    """Of a gate; segmenters do not know it."""


def read_run_identity(path: Path) -> dict[str, Any]:
    """The `run.json` of a run folder, checked as far as a network is built from it.

    Raises:
        DataError: It is no run folder, or its `run.json` says something else.
    """
    remedy = "Give the --out of a training"
    try:
        data = read_regular(path / "run.json", TEXT_BYTES_MAX)
        identity = decode_json(data, dict[str, Any])
    except (OSError, DecodeError) as error:
        raise DataError("is no run folder", where=str(path), remedy=remedy) from error
    try:
        network = decode_json(data, RunNetwork)
    except DecodeError as error:
        raise DataError(
            f"is not of a training: {error}", where=str(path / "run.json"), remedy=remedy
        ) from error
    if network.kind == "gate" and network.ignore_black is None:
        raise DataError(
            "is not of a training: a gate without `ignore_black`",
            where=str(path / "run.json"),
            remedy=remedy,
        )
    return identity


def load_state_into(
    target: nn.Module | torch.optim.Optimizer, stored: dict[str, Any], checkpoint: Path | None
) -> None:
    """Load what a checkpoint holds.

    Raises:
        DataError: It is of another network.
    """
    try:
        target.load_state_dict(stored)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"is of another network than run.json says: {' '.join(str(error).split())[:200]}",
            where=str(checkpoint or ""),
            remedy="Put the checkpoint of this run back, or train again into another folder",
        ) from error


@dataclass(slots=True)
class TrainingState:
    """All that a training needs to go on: what is random is decided by the step."""

    step: int = 0
    """Steps done."""
    net: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    """Averaged weights of the best look at the validation split; empty before the first."""
    best_score: float = float("-inf")
    looks_since_best: int = 0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    """(step, loss, learning rate, score or NaN)."""
    done: bool = False


class RunFolder:
    """The folder of one training: `run.json`, `checkpoint.pt`, `curve.csv`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """Where the state is."""
        return self.path / "checkpoint.pt"

    def start_or_resume(self, identity: Mapping[str, Any], *, resume: bool) -> TrainingState:
        """Make the folder, or go on in it.

        Args:
            identity: Recipe, data and versions; a run goes on only with the same.
            resume: Whether a state that is there may be gone on with.

        Raises:
            DataError: There is a run already (without `resume`), or one of another identity.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        known = self.path / "run.json"
        text = json.dumps(identity, indent=2, sort_keys=True, default=str)
        if known.exists() and self.checkpoint.exists():
            if not resume:
                raise DataError(
                    "holds a training already",
                    where=str(self.path),
                    remedy="Give --resume to go on with it, or another --out",
                )
            before = _read_identity(known)
            before.setdefault("left_out", identity.get("left_out"))  # begun before it was kept
            changed = _list_changes(before, decode_json(text, dict[str, Any]))
            if changed:
                raise DataError(
                    f"was begun with other settings: {'; '.join(changed[:5])}",
                    where=str(self.path),
                    remedy="Give the same ones, or another --out",
                )
            return self._resume()
        write_atomic(known, text.encode())
        return TrainingState()

    def load(self) -> TrainingState:
        """Raises DataError if the checkpoint cannot be read, or holds something else."""
        try:
            loaded = torch.load(
                check_regular(self.checkpoint), map_location="cpu", weights_only=True
            )
            return _validated(TrainingState(**loaded))
        except Exception as error:  # torch raises many kinds for a file that is not its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(
                f"cannot be read: {reason}",
                where=str(self.checkpoint),
                remedy="Train again into another folder",
            ) from error

    def _resume(self) -> TrainingState:
        """The state that is there; `curve.csv` is of it, whatever became of the file."""
        state = self.load()
        try:
            self._write_curve(state)
        except OSError as error:
            raise StorageError(
                f"cannot be written: {error}",
                where=str(self.path / "curve.csv"),
                remedy="Make room, then go on with --resume",
            ) from error
        return state

    def save(self, state: TrainingState) -> None:
        """Write the state; the file before it stays until the new one is whole.

        Raises:
            StorageError: The disk is full or cannot be written.
        """
        fresh = self.checkpoint.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                torch.save({name: getattr(state, name) for name in TrainingState.__slots__}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.checkpoint)
            self._write_curve(state)
        except (OSError, RuntimeError) as error:
            fresh.unlink(missing_ok=True)
            raise StorageError(
                f"cannot be written: {error}",
                where=str(self.checkpoint),
                remedy="Make room, then go on with --resume",
            ) from error

    def _write_curve(self, state: TrainingState) -> None:
        fresh = self.path / "curve.new"
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = TableWriter(file, "\r\n")
            writer.writerow(["step", "loss", "learning_rate", "validation_score"])
            writer.writerows(
                (step, f"{loss:.5f}", f"{rate:.3g}", "" if score != score else f"{score:.5f}")
                for step, loss, rate, score in state.curve
            )
        fresh.replace(self.path / "curve.csv")


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
        if len(row) != 4 or not all(isinstance(each, int | float) for each in row):
            raise TypeError("it is no state of a training: curve")
    return state


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new one, never a part."""
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Make room"
        ) from error


def _read_identity(known: Path) -> dict[str, Any]:
    try:
        return decode_json(read_regular(known, TEXT_BYTES_MAX), dict[str, Any])
    except (OSError, DecodeError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(known), remedy="Train into another folder"
        ) from error


def _list_changes(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            change
            for key in sorted(before.keys() | now.keys())
            for change in _list_changes(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path} was {before!r}, is {now!r}"]
