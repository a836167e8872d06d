"""Images that annotation files embed, as temporary files of this process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from edgeinspect.errors import DataError, OutputError
from edgeinspect.imaging import DATASET_PIXELS_MAX, IMAGE_SUFFIXES, check_size

_EMBEDDED_SUFFIX = ".png"
"""The content of a file decides its format, so any suffix of an image will do."""


class EmbeddedImages:
    """Writes images into a folder that is removed when the process ends."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def write(self, name: str, data: bytes, where: str) -> Path:
        """Write one image and return its file.

        Args:
            name: Path below the set's folder, unique in the set.
            data: The image file.
            where: File and entry, for messages.

        Raises:
            DataError: It is not an image of a supported format and size.
            OutputError: The temporary folder cannot be written.
        """
        try:
            check_size(data, DATASET_PIXELS_MAX)
        except DataError as error:
            raise DataError(f"has an embedded image that {error.what}", where=where) from error
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="edgeinspect-embedded-"))
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / name
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                path = path.with_name(path.name + _EMBEDDED_SUFFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise OutputError(
                f"embedded images cannot be unpacked: {error.strerror}",
                where=str(self._folder or tempfile.gettempdir()),
                remedy="Free space there, or name another folder in $TMPDIR",
            ) from error
        return path
