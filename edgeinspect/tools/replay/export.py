"""A recording as a folder: each picture a PNG, and the verdicts one a line."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2

from edgeinspect.domain import Pixels
from edgeinspect.errors import StorageError
from edgeinspect.storage.recording import RecordedFrame


class RecordingExporter:
    """Writes what it is shown. One thread."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            StorageError: It cannot be made, or holds an export already.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._verdicts: BinaryIO = (folder / "verdicts.jsonl").open("xb")
        except FileExistsError as error:
            raise StorageError(
                "holds an export already", where=str(folder), remedy="Name another folder"
            ) from error
        except OSError as error:
            raise StorageError(f"cannot be made: {error.strerror}", where=str(folder)) from error

    def add(self, recorded: RecordedFrame, pixels: Pixels | None) -> None:
        """Write one frame: its recorded verdict, and its picture without loss if there is one."""
        verdict = recorded.verdict
        try:
            self._verdicts.write(recorded.record.verdict + b"\n")
            if pixels is not None and pixels.shape[2] != 2:
                name = f"{verdict.epoch}-{verdict.seq:09}.png"
                done, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
                if done:
                    (self.folder / name).write_bytes(data.tobytes())
        except OSError as error:
            raise StorageError(
                f"cannot be written: {error.strerror}", where=str(self.folder)
            ) from error

    def close(self) -> None:
        """Close the list of verdicts."""
        self._verdicts.close()
