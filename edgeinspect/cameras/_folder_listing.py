"""Lists a folder of images: the names that become frames, and the entries that are skipped.

Every entry with the suffix of an image that is not hidden becomes a frame, also a pipe or a
folder, whose verdict then states the problem. Listing opens no file and follows no link.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging import is_hidden, is_image_name
from edgeinspect.system import TEXT_BYTES_MAX, FileReadError, escape_name, read_regular

NAMES_MAX = 1_000_000
"""Most entries of one folder."""
_EXAMPLES_MAX = 3
_FOLDERS, _NO_SUFFIX = "folders", "without an ending"


@dataclass(slots=True)
class SkippedEntries:
    """Entries of a folder that are not frames, by kind. Hidden names are not counted."""

    counts: Counter[str] = field(default_factory=Counter)
    """By suffix, such as `.webp`; `folders`; `without an ending`."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few names of each kind."""

    def add(self, name: str, kind: str) -> None:
        """Count one entry."""
        self.counts[kind] += 1
        if len(names := self.examples.setdefault(kind, [])) < _EXAMPLES_MAX:
            names.append(escape_name(name))

    def __str__(self) -> str:
        """Return, for example, `3 .webp (a.webp, b.webp, c.webp), 1 folders (old)`."""
        kinds = []
        for kind, count in self.counts.most_common(8):
            more = ", ..." if count > _EXAMPLES_MAX else ""
            kinds.append(f"{count} {kind} ({', '.join(sorted(self.examples[kind]))}{more})")
        return ", ".join(kinds)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The frames of a folder by name, in order, and the skipped entries."""

    names: list[str]
    skipped: SkippedEntries


def list_folder(path: str, names_file: str | None = None) -> FolderListing:
    """List the images of a folder.

    Args:
        path: The folder; subfolders are skipped.
        names_file: A text file with one name per line; None for all images, sorted.

    Raises:
        CameraLostError: The folder cannot be read.
        DataError: It holds more than `NAMES_MAX` names, or the file of names cannot be read.
    """
    names: list[str] = []
    skipped = SkippedEntries()
    try:
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= NAMES_MAX:
                    raise DataError(
                        f"holds more than {NAMES_MAX} files",
                        where=escape_name(path),
                        remedy="Move inspected files elsewhere",
                    )
                if is_image_name(entry.name):
                    names.append(entry.name)
                elif not is_hidden(entry.name):
                    skipped.add(entry.name, _entry_kind(entry))
    except OSError as error:
        raise CameraLostError(
            f"folder cannot be read: {error.strerror}", where=escape_name(path)
        ) from error
    names.sort()
    if names_file is None:
        return FolderListing(names, skipped)
    return FolderListing(_read_names(names_file), SkippedEntries())


def check_folder_exists(path: str) -> None:
    """Raise `CameraLostError` if the folder does not exist."""
    if not os.path.isdir(path):
        raise CameraLostError("folder is gone", where=escape_name(path))


def _entry_kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return _FOLDERS
    except OSError:
        pass  # use its suffix
    ending = os.path.splitext(entry.name)[1].lower()
    return escape_name(ending[:16]) if ending else _NO_SUFFIX


def _read_names(path: str) -> list[str]:
    try:
        data = read_regular(Path(path), TEXT_BYTES_MAX)
    except FileReadError as error:
        raise DataError(error.what, where=error.where, remedy=error.remedy) from error
    return _strip_lines(
        data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    )


def _strip_lines(lines: Iterable[str]) -> list[str]:
    return [name.strip() for name in lines if name.strip()]
