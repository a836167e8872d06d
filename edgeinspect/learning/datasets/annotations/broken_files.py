"""Finds label files that exist but cannot be read.

A reader that looks for files it knows passes over an empty one, one that was cut short, a pipe, a
link to nothing, a pointer of Git LFS or a web page, and the images that it labels would count as
good.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.documents import check_json, read_xml
from edgeinspect.learning.datasets.annotations.label_files import read_ends, read_start
from edgeinspect.learning.datasets.files import entries_in, subfolders
from edgeinspect.learning.datasets.foreign_content import (
    START_BYTES,
    describe_foreign_content,
)
from edgeinspect.learning.datasets.tables import read_table_text
from edgeinspect.system import DecodeError, check_regular, decode_yaml_text, escape_name

SET_SUFFIXES = (".json", ".xml", ".yaml", ".yml", ".csv", ".txt", ".names", ".data")
"""Suffixes of files that hold labels, names of classes or splits."""
_MAY_BE_EMPTY = (".txt", ".names", ".data")
"""An empty list has no entries: YOLO's label of a good image, a split without images."""
_PARSED_BYTES_MAX = 1 << 24
_MAX_PARSED = 256


def entries_below(root: Path, suffixes: Iterable[str], depth: int = 3) -> Iterator[Path]:
    """Yield the entries of some suffixes in a folder and some levels below, of any kind.

    Unlike `label_files.files_below`, also folders, pipes, and links to nothing.
    """
    wanted = tuple(suffixes)
    for entry in entries_in(root):
        if entry.suffix.lower() in wanted:
            yield entry
    if depth:
        for folder in subfolders(root):
            yield from entries_below(folder, wanted, depth - 1)


def describe_unread(path: Path, what: str) -> str:
    """Return why a reader that looks for files of a format did not take this one.

    Args:
        path: A file that it did not take.
        what: Name of the format.
    """
    return _kind_problem(path) or _foreign_content(path) or f"is not {what}, or was cut short"


def _kind_problem(path: Path, *, may_be_empty: bool = False) -> str:
    """Return why an entry is no file with content; empty if it is one."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return "is a link to a file that does not exist"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not status.st_size and not may_be_empty:
        return "is empty"
    try:
        check_regular(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _foreign_content(path: Path) -> str:
    return describe_foreign_content(read_start(path, START_BYTES))


def find_problem(path: Path, *, is_parsed: bool = True) -> str:
    """Return why a file that may hold labels cannot be read; empty if it can.

    Args:
        path: Any entry with one of `SET_SUFFIXES`.
        is_parsed: Parse JSON, XML and YAML up to 16 MiB, and look for NUL bytes in others;
            otherwise only the kind of the entry, its size and its start are checked.
    """
    suffix = path.suffix.lower()
    problem = _kind_problem(path, may_be_empty=suffix in _MAY_BE_EMPTY)
    problem = problem or _foreign_content(path)
    if problem or not is_parsed or path.stat().st_size > _PARSED_BYTES_MAX:
        return problem
    try:
        if suffix == ".json":
            check_json(path, _PARSED_BYTES_MAX)
        elif suffix == ".xml":
            read_xml(path, _PARSED_BYTES_MAX)
        elif suffix in (".yaml", ".yml"):
            decode_yaml_text(read_table_text(path, _PARSED_BYTES_MAX))
        elif _has_nul(read_ends(path)):
            return "has NUL bytes: it is damaged, or no text"
    except DataError as error:
        return error.what
    except DecodeError as error:
        return f"is not YAML: {error}"
    return ""


def _has_nul(data: bytes) -> bool:
    return b"\0" in data and not data.startswith((b"\xff\xfe", b"\xfe\xff"))  # UTF-16


def broken_files(root: Path, *, without: Iterable[str] = ()) -> list[tuple[Path, str]]:
    """Return the files below a folder that may hold labels and cannot be read, and why.

    Args:
        root: Folder of a data set, or the file that a user gave as one.
        without: Suffixes that are not looked at.
    """
    if not root.is_dir():
        problem = find_problem(root) if root.suffix.lower() in SET_SUFFIXES else ""
        return [(root, problem)] if problem else []
    suffixes = [suffix for suffix in SET_SUFFIXES if suffix not in set(without)]
    found = []
    for number, path in enumerate(entries_below(root, suffixes)):
        if problem := find_problem(path, is_parsed=number < _MAX_PARSED):
            found.append((path, problem))
    return found


def broken_file_error(root: Path, broken: list[tuple[Path, str]], remedy: str) -> DataError:
    """Return the error that names the first of some broken files."""
    path, problem = broken[0]
    more = f", and {len(broken) - 1} more cannot be read" if broken[1:] else ""
    name = escape_name(path.relative_to(root)) if path != root else escape_name(path.name)
    return DataError(f"{name} {problem}{more}", where=escape_name(root), remedy=remedy)
