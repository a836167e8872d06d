"""Files of a data set's folder: without hidden ones and link loops, in a fixed order."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_hidden, is_image_name
from edgeinspect.learning.datasets.vocabulary import word_set
from edgeinspect.system import escape_name

UNSUPPORTED_SUFFIXES = word_set(
    """
    .webp .gif .heic .heif .avif .jp2 .j2k .jxl .exr .jfif .jpe .dib .pbm .pnm .pam .tga .pcx .psd
    .dng .raw .dcm
    """
)
"""Suffixes of image formats that are not supported."""
ARRAY_SUFFIXES = frozenset((".npy", ".npz", ".mat"))
"""Suffixes of array files, which may hold masks."""


def images_below(folder: Path) -> list[Path]:
    """Return every image below a folder in natural order: 2 before 10.

    Links are followed; each real folder is visited once, so loops end. A folder with the name of
    an image and no image in it is returned as well, so that reading it says why: an image whose
    mask is a folder is not good.
    """
    return _files_below(folder, is_image_name)


def unsupported_below(folder: Path) -> list[Path]:
    """Return every image or array file below a folder in a format that is not supported."""
    return _files_below(
        folder, lambda name: Path(name).suffix.lower() in UNSUPPORTED_SUFFIXES | ARRAY_SUFFIXES
    )


def _files_below(folder: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for base, folders, files in os.walk(folder, onerror=_check_listable, followlinks=True):
        try:
            status = os.stat(base)
        except OSError:
            folders.clear()
            continue
        if (key := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(key)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found.extend(Path(base, name) for name in files if is_wanted(name) and not is_hidden(name))
        found.extend(
            Path(base, name)
            for name in folders
            if is_wanted(name) and not contains_images(Path(base, name))
        )
    return sorted(found, key=natural_key)


def contains_images(folder: Path) -> bool:
    """Return whether there is an image below a folder."""
    return next(_iter_images(folder, 0), None) is not None


def _iter_images(folder: Path, depth: int) -> Iterator[str]:
    entries = _list_entries(folder)
    yield from (entry.name for entry in entries if _is_file(entry) and is_image_name(entry.name))
    if depth < 6:  # ends link loops
        for entry in entries:
            if _is_dir(entry):
                yield from _iter_images(Path(entry.path), depth + 1)


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not is_hidden(entry.name)), key=lambda e: e.name
            )
    except OSError as error:
        _check_listable(error)
        return []


def _check_listable(error: OSError) -> None:
    """Ignore a folder that does not exist; its files would otherwise be missed silently.

    Raises:
        DataError: The folder exists but cannot be listed.
    """
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        raise DataError(
            f"cannot be listed: {error.strerror}",
            where=escape_name(error.filename or ""),
            remedy="Grant read permission, or move it out of the data set",
        ) from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Follow links; False for a link to itself or an unreachable server."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, sorted, without hidden ones."""
    return [Path(entry.path) for entry in _list_entries(folder) if _is_dir(entry)]


def files_in(folder: Path) -> list[Path]:
    """Return the files directly in a folder, sorted, without hidden ones."""
    return [Path(entry.path) for entry in _list_entries(folder) if _is_file(entry)]


def entries_in(folder: Path) -> list[Path]:
    """Return all entries directly in a folder, sorted, without hidden ones: also broken links."""
    return [Path(entry.path) for entry in _list_entries(folder)]


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that compares digits as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts if p)


def printable_file_name(path: Path) -> str:
    r"""Return a name for a copy of a file that tables, JSON and other programs can hold.

    That of the file, unless it has bytes that are not UTF-8, control characters or backslashes:
    these are escaped as `escape_name` does, with `_` for the backslash, which readers of COCO
    take for the end of a folder's name. Different names may become one: the caller numbers them.
    """
    return re.sub(r"\\+", "_", escape_name(path.name))


def unique_names(root: Path, paths: Iterable[Path]) -> dict[Path, str]:
    """Return a unique name per image: the file name, or all paths below the root."""
    paths = list(paths)
    count: dict[str, int] = {}
    for path in paths:
        count[path.name] = count.get(path.name, 0) + 1
    if max(count.values(), default=1) == 1:
        return {path: path.name for path in paths}
    return {path: path.relative_to(root).as_posix() for path in paths}
