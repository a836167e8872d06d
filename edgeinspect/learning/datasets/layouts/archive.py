"""The archive of a line's frames, read in place: the labels are the line's verdicts.

A `corrections.csv` in its folder overrides them (`archive_frames.py`).
"""

from __future__ import annotations

from pathlib import Path

from edgeinspect.learning.datasets.archive_frames import (
    ArchivedFrames,
    archive_dataset,
    read_corrections,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints
from edgeinspect.storage.archive import is_archive, is_complete, read_sidecar, sidecars

NEEDS = "archive.json, as `edgeinspect archive run` writes it"
RANK = 5
CORRECTIONS_FILE = "corrections.csv"


def recognise(path: Path) -> bool:
    """Return whether a folder is an archive."""
    return path.is_dir() and is_archive(path)


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen; it knows its classes
    """Read the samples of all labelled frames.

    Raises:
        DataError: A sidecar cannot be read, or as `archive_dataset`.
    """
    file = path / CORRECTIONS_FILE
    return archive_dataset(
        path, archived_frames(path), read_corrections(file) if file.is_file() else {}
    )


def archived_frames(path: Path) -> ArchivedFrames:
    """Yield every complete frame, except those that a running archive removes meanwhile."""
    for sidecar in sidecars(path):
        if sidecar.exists():
            contents = read_sidecar(sidecar)
            if is_complete(sidecar, contents):
                yield sidecar, contents
