"""Export of a recording into a folder: images as PNG, verdicts as JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import cv2

from edgeinspect.domain import Pixels
from edgeinspect.errors import OutputError
from edgeinspect.storage.recording import RecordedFrame


class RecordingExporter:
    """Writes recorded frames into a folder. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Create the folder.

        Raises:
            OutputError: It cannot be created, or is not empty: images of a data set would get
                others beside them.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise OutputError("is not empty", where=str(folder), remedy="Give a new folder")
            self._verdicts: BinaryIO = (folder / "verdicts.jsonl").open("xb")
        except OSError as error:
            raise OutputError(f"cannot be created: {error.strerror}", where=str(folder)) from error

    def add(self, recorded: RecordedFrame, pixels: Pixels | None) -> None:
        """Write one frame: its recorded verdict, and its image losslessly if there is one."""
        verdict = recorded.verdict
        try:
            self._verdicts.write(recorded.record.verdict + b"\n")
            if pixels is not None and pixels.shape[2] != 2:
                name = f"{verdict.epoch}-{verdict.seq:09}.png"
                encoded, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
                if encoded:
                    (self.folder / name).write_bytes(data.tobytes())
        except OSError as error:
            raise OutputError(
                f"cannot be written: {error.strerror}", where=str(self.folder)
            ) from error

    def close(self) -> None:
        """Close the file of verdicts."""
        self._verdicts.close()
