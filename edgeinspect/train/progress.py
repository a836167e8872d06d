"""A training's state on disk: written whole or not at all, so `kill -9` costs only time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgeinspect.decoding import DecodeError, decode_json
from edgeinspect.errors import DataError, StorageError
from edgeinspect.foreign_text import TableWriter
from edgeinspect.regular_file import TEXT_BYTES_MAX, check_regular, read_regular


@dataclass(slots=True)
class State:
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

    def begin(self, identity: Mapping[str, Any], *, resume: bool) -> State:
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
            before = _identity(known)
            before.setdefault("left_out", identity.get("left_out"))  # begun before it was kept
            changed = _changes(before, decode_json(text, dict[str, Any]))
            if changed:
                raise DataError(
                    f"was begun with other settings: {'; '.join(changed[:5])}",
                    where=str(self.path),
                    remedy="Give the same ones, or another --out",
                )
            return self.load()
        write_whole(known, text.encode())
        return State()

    def load(self) -> State:
        """Raises DataError if the checkpoint cannot be read."""
        try:
            return State(
                **torch.load(check_regular(self.checkpoint), map_location="cpu", weights_only=True)
            )
        except Exception as error:  # torch raises many kinds for a file that is not its own
            raise DataError(
                f"cannot be read: {str(error).splitlines()[0]}",
                where=str(self.checkpoint),
                remedy="Train again into another folder",
            ) from error

    def save(self, state: State) -> None:
        """Write the state; the file before it stays until the new one is whole.

        Raises:
            StorageError: The disk is full or cannot be written.
        """
        fresh = self.checkpoint.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                torch.save({name: getattr(state, name) for name in State.__slots__}, file)
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

    def _write_curve(self, state: State) -> None:
        fresh = self.path / "curve.new"
        with fresh.open("w", newline="", encoding="utf-8") as file:
            writer = TableWriter(file, "\r\n")
            writer.writerow(["step", "loss", "learning_rate", "validation_score"])
            writer.writerows(
                (step, f"{loss:.5f}", f"{rate:.3g}", "" if score != score else f"{score:.5f}")
                for step, loss, rate, score in state.curve
            )
        fresh.replace(self.path / "curve.csv")


def write_whole(path: Path, data: bytes) -> None:
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


def _identity(known: Path) -> dict[str, Any]:
    try:
        return decode_json(read_regular(known, TEXT_BYTES_MAX), dict[str, Any])
    except (OSError, DecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(known),
                        remedy="Train into another folder") from error  # fmt: skip


def _changes(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            change
            for key in sorted(before.keys() | now.keys())
            for change in _changes(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{path} was {before!r}, is {now!r}"]
