"""Work that survives `kill -9`: arrays written in one rename, read back at the same place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import StorageError
from edgeinspect.system import MODEL_BYTES_MAX, DecodeError, decode_arrays, read_regular

ProgressCallback = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

CHECKPOINT_INTERVAL = 25
"""Frames between two states on disk: a death costs at most so many."""


def no_progress(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one.

    Raises:
        StorageError: It cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, try again"
        ) from error


class CalibrationCheckpoint:
    """The state of one calibration, in a folder that is named after what it is made of.

    Args:
        folder: Made when first written.
        resume: False forgets what an earlier run left.
    """

    def __init__(self, folder: Path, *, resume: bool) -> None:
        self.folder = folder
        if not resume:
            self.clear()

    def load(self, stage: str) -> dict[str, NDArray[Any]] | None:
        """What was kept of a stage; None if nothing, or if it is damaged."""
        try:
            return decode_arrays(read_regular(self.folder / f"{stage}.npz", MODEL_BYTES_MAX))
        except (OSError, DecodeError):
            return None

    def save(self, stage: str, arrays: Mapping[str, Any]) -> None:
        """Keep a stage's state.

        Raises:
            StorageError: It cannot be written.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(self.folder / f"{stage}.npz", buffer.getvalue())

    def clear(self) -> None:
        """Remove everything that was kept."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.suffix in (".npz", ".onnx") or path.name.startswith("."):
                    path.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
