"""Calibration checkpoints that survive `kill -9`: arrays, written atomically."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import OutputError
from edgeinspect.system import (
    CLAIM_FILE,
    MODEL_BYTES_MAX,
    DecodeError,
    decode_arrays,
    read_regular,
    write_atomic,
)

ProgressCallback = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

CHECKPOINT_INTERVAL = 25
"""Frames between two checkpoints; at most this many are repeated after an interruption."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, in a folder that is created if missing.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data, mode=0o644, durable=True)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            remedy="Free disk space and try again",
        ) from error


class CalibrationCheckpoint:
    """The state of one calibration, in a folder named after a hash of its inputs.

    Args:
        folder: Created on the first `save`, or by the claim of the only process that may use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, stage: str) -> dict[str, NDArray[Any]] | None:
        """Return the saved state of a stage; None if missing or damaged."""
        try:
            return decode_arrays(read_regular(self.folder / f"{stage}.npz", MODEL_BYTES_MAX))
        except (OSError, DecodeError):
            return None

    def save(self, stage: str, arrays: Mapping[str, Any]) -> None:
        """Save the state of a stage.

        Raises:
            OutputError: It cannot be written.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_file(self.folder / f"{stage}.npz", buffer.getvalue())

    def clear(self) -> None:
        """Remove all saved state."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name == CLAIM_FILE:
                    continue
                if path.suffix in (".npz", ".onnx") or path.name.startswith("."):
                    path.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
