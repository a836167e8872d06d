"""What may stand where a gateway keeps its state, and is no file of it."""

from __future__ import annotations

import os
from pathlib import Path

from edgeinspect.system.regular_file import TEXT_BYTES_MAX

INVALID_KINDS = ("pipe", "folder", "device", "huge")


def put_invalid_file(path: Path, kind: str) -> None:
    """Put one of `NO_FILES` at a path where nothing is yet."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, TEXT_BYTES_MAX + 1)
