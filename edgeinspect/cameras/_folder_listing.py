"""What a folder of pictures holds: which names are frames, and which are passed over.

Whatever has a picture's ending and is not hidden is a frame, also if it turns out to be a pipe
or a folder: then its verdict says so. Nothing is opened or followed to list it.
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
"""Most names of one folder."""
_EXAMPLES_MAX = 3
_FOLDERS, _NO_SUFFIX = "folders", "without an ending"


@dataclass(slots=True)
class SkippedEntries:
    """What of a folder is no frame, by kind. Hidden names are not counted."""

    counts: Counter[str] = field(default_factory=Counter)
    """By ending, as `.webp`; `folders`; `without an ending`."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few names of each kind."""

    def add(self, name: str, kind: str) -> None:
        """One entry more."""
        self.counts[kind] += 1
        if len(names := self.examples.setdefault(kind, [])) < _EXAMPLES_MAX:
            names.append(escape_name(name))

    def __str__(self) -> str:
        """As `3 .webp (a.webp, b.webp, c.webp), 1 folders (old)`; empty if there is nothing."""
        said = []
        for kind, count in self.counts.most_common(8):
            more = ", ..." if count > _EXAMPLES_MAX else ""
            said.append(f"{count} {kind} ({', '.join(sorted(self.examples[kind]))}{more})")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The frames of a folder by their names, in order, and what is passed over."""

    names: list[str]
    skipped: SkippedEntries


def list_folder(path: str, names_file: str | None = None) -> FolderListing:
    """The pictures of a folder.

    Args:
        path: The folder; not those below it.
        chosen: A text file with one name a line: only these, in its order.

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
                        remedy="Move what has been judged elsewhere",
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
    """Raise `CameraLostError` if a folder is gone."""
    if not os.path.isdir(path):
        raise CameraLostError("folder is gone", where=escape_name(path))


def _entry_kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return _FOLDERS
    except OSError:
        pass  # then its name tells enough
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
