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
from edgeinspect.imaging.image_names import is_hidden, is_picture
from edgeinspect.system.regular_file import TEXT_BYTES_MAX, FileReadError, printable, read_regular

NAMES_MAX = 1_000_000
"""Most names of one folder."""
_SHOWN = 3
_FOLDERS, _PLAIN = "folders", "without an ending"


@dataclass(slots=True)
class Skipped:
    """What of a folder is no frame, by kind. Hidden names are not counted."""

    count: Counter[str] = field(default_factory=Counter)
    """By ending, as `.webp`; `folders`; `without an ending`."""
    first: dict[str, list[str]] = field(default_factory=dict)
    """A few names of each kind."""

    def add(self, name: str, kind: str) -> None:
        """One entry more."""
        self.count[kind] += 1
        if len(names := self.first.setdefault(kind, [])) < _SHOWN:
            names.append(printable(name))

    def __str__(self) -> str:
        """As `3 .webp (a.webp, b.webp, c.webp), 1 folders (old)`; empty if there is nothing."""
        said = []
        for kind, count in self.count.most_common(8):
            more = ", ..." if count > _SHOWN else ""
            said.append(f"{count} {kind} ({', '.join(sorted(self.first[kind]))}{more})")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Listing:
    """The frames of a folder by their names, in order, and what is passed over."""

    names: list[str]
    skipped: Skipped


def list_folder(path: str, chosen: str | None = None) -> Listing:
    """The pictures of a folder.

    Args:
        path: The folder; not those below it.
        chosen: A text file with one name a line: only these, in its order.

    Raises:
        CameraLostError: The folder cannot be read.
        DataError: It holds more than `NAMES_MAX` names, or the file of names cannot be read.
    """
    names: list[str] = []
    skipped = Skipped()
    try:
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries):
                if number >= NAMES_MAX:
                    raise DataError(
                        f"holds more than {NAMES_MAX} files",
                        where=printable(path),
                        remedy="Move what has been judged elsewhere",
                    )
                if is_picture(entry.name):
                    names.append(entry.name)
                elif not is_hidden(entry.name):
                    skipped.add(entry.name, _kind(entry))
    except OSError as error:
        raise CameraLostError(
            f"folder cannot be read: {error.strerror}", where=printable(path)
        ) from error
    names.sort()
    if chosen is None:
        return Listing(names, skipped)
    return Listing(_chosen(chosen), Skipped())


def check_there(path: str) -> None:
    """Raise `CameraLostError` if a folder is gone."""
    if not os.path.isdir(path):
        raise CameraLostError("folder is gone", where=printable(path))


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return _FOLDERS
    except OSError:
        pass  # then its name tells enough
    ending = os.path.splitext(entry.name)[1].lower()
    return printable(ending[:16]) if ending else _PLAIN


def _chosen(path: str) -> list[str]:
    try:
        data = read_regular(Path(path), TEXT_BYTES_MAX)
    except FileReadError as error:
        raise DataError(error.what, where=error.where, remedy=error.remedy) from error
    return _lines(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n"))


def _lines(lines: Iterable[str]) -> list[str]:
    return [name.strip() for name in lines if name.strip()]
