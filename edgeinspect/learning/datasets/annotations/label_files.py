"""Recognises annotation files by words in them, without decoding them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeinspect.learning.datasets.files import files_in, subfolders
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES
from edgeinspect.system import is_regular, open_regular

_PEEK_BYTES = 1 << 16
_SCAN_BYTES_MAX = 1 << 30
_CHUNK_BYTES = 1 << 22
_FOLDERS = 64
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_start(file: Path, size_bytes: int) -> bytes:
    """Return the start of a regular file; empty for any other."""
    try:
        if not is_regular(file):
            return b""
        with open_regular(file) as opened:
            return opened.read(size_bytes)
    except OSError:
        return b""


def read_ends(file: Path) -> bytes:
    """Return the start and the end of a regular file; empty for any other."""
    try:
        if not is_regular(file):
            return b""
        with open_regular(file) as opened:
            head = opened.read(_PEEK_BYTES)
            size = os.fstat(opened.fileno()).st_size
            if size <= _PEEK_BYTES:
                return as_utf8(head)
            opened.seek(max(_PEEK_BYTES, (size - _PEEK_BYTES) // 2 * 2))
            tail = opened.read(_PEEK_BYTES)
            bom = head[:2] if head.startswith(_UTF16_BOMS) else b""
            return as_utf8(head) + b"\n" + as_utf8(bom + tail)
    except OSError:
        return b""


def as_utf8(text: bytes) -> bytes:
    """Return a text as UTF-8 without a mark of its encoding; Windows' programs write UTF-16."""
    if text.startswith(_UTF16_BOMS):
        return text.decode("utf-16", "replace").encode("utf-8", "replace")
    return text.removeprefix(b"\xef\xbb\xbf")


def has_words(file: Path, words: Iterable[bytes], hints: Iterable[bytes] = ()) -> bool:
    """Return whether a file has all of some words.

    Args:
        file: The file.
        words: What it must have, anywhere.
        hints: A long file is searched as a whole only if one of the words, or of these, is near
            its start or end.
    """
    ends = read_ends(file)
    missing = {word for word in words if word not in ends}
    if not missing:
        return True
    if missing == set(words) and not any(hint in ends for hint in hints):
        return False
    return not _missing_words(file, missing)


def _missing_words(file: Path, words: set[bytes]) -> set[bytes]:
    """Return the words that a whole file does not have."""
    longest = max(map(len, words))
    missing = set(words)
    try:
        with open_regular(file) as opened:
            before, done = b"", 0
            while missing and done < _SCAN_BYTES_MAX and (chunk := opened.read(_CHUNK_BYTES)):
                text = before + chunk
                missing = {word for word in missing if word not in text}
                before, done = text[-longest:], done + len(chunk)
    except OSError:
        pass
    return missing


def files_with_suffix(folder: Path, *suffixes: str) -> list[Path]:
    """Return the files directly in a folder with one of some suffixes in any case, sorted."""
    return [file for file in files_in(folder) if file.suffix.lower() in suffixes]


def label_folders(root: Path, *names: str) -> Iterator[Path]:
    """Yield a folder, its folders of some names, and its folders of splits."""
    yield root
    for folder in subfolders(root)[:_FOLDERS]:
        if folder.name.lower() in names or folder.name.lower() in SPLIT_NAMES:
            yield folder


def set_folders(root: Path, *names: str) -> Iterator[Path]:
    """Yield a folder, its folders of some names or of splits, and theirs in turn.

    A data set deeper in other folders is not this folder's own: its lists would be missed.
    """
    for folder in label_folders(root, *names):
        yield folder
        if folder != root:
            yield from (each for each in label_folders(folder, *names) if each != folder)


def own_label_files(root: Path, suffix: str, *names: str) -> Iterator[Path]:
    """Yield the files of a suffix in `set_folders`, and anywhere below those of the names."""
    for folder in set_folders(root, *names):
        is_named = folder != root and folder.name.lower() in names
        yield from files_below(folder, suffix) if is_named else files_with_suffix(folder, suffix)


def files_below(root: Path, suffix: str, depth: int = 3) -> list[Path]:
    """Return the files of a suffix in a folder and some levels below, without link loops."""
    found = files_with_suffix(root, suffix)
    if depth:
        for folder in subfolders(root):
            found += files_below(folder, suffix, depth - 1)
    return found
