"""Opens files with untrusted names: only regular files, of bounded size, without blocking.

A name that ends in `.png` may be a named pipe, a socket, a terminal, or a device with side
effects when opened. Opening a pipe blocks until it has a writer. So the file type is checked
before the file is opened and again on the opened descriptor, and the open itself never blocks.

No flag prevents a read that never returns: a dead file server, a failing disk. A thread that
must not block does not read files.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgeinspect.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB = 1 << 20
TEXT_BYTES_MAX = 64 * MIB
"""Maximum size of a table, list or record that is read at once."""
MODEL_BYTES_MAX = 8192 * MIB
"""Maximum size of a weights file; ONNX files end at 2 GiB, with the rest in another file."""
_CHUNK_BYTES = 4 * MIB
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


class FileReadError(DataError, OSError):
    """A file cannot be read completely as a regular file.

    It is also an `OSError`, with `errno` and `strerror`, for callers that expect the system's
    errors from a path.
    """

    def __init__(
        self, what: str, path: Path | str, number: int, *, remedy: str = "", strerror: str = ""
    ) -> None:
        super().__init__(what, where=escape_name(path), remedy=remedy)
        self.errno = number
        self.strerror = strerror or what
        self.filename = str(path)


class FileMissingError(FileReadError, FileNotFoundError):
    """There is no such file, or it vanished before it was opened."""


class NotRegularError(FileReadError):
    """It is a pipe, a device, a folder, or larger than allowed."""


def escape_name(name: Path | str) -> str:
    r"""Return a file name as text that can be displayed, stored and sent.

    Bytes that are not UTF-8 become `\xE4`, control characters and bidirectional controls
    `\x0A` or `\u202E`, and a backslash is doubled, so that different names stay different.
    """
    text = os.fspath(name)
    if "\\" not in text and all(map(_is_plain, text)):
        return text
    return "".join(_escape(each) for each in text)


def unescape_name(text: str) -> str:
    """Return the name from which `escape_name` made `text`."""
    return _ESCAPE.sub(_unescape_match, text)


_ESCAPE = re.compile(r"\\(\\|x[0-9A-F]{2}|u[0-9A-F]{4}|U[0-9A-F]{8})")


def _unescape_match(found: re.Match[str]) -> str:
    word = found[1]
    if word == "\\":
        return word
    code = int(word[1:], 16)
    if code > sys.maxunicode:
        return found[0]  # not a character: keep it as it is
    return chr(code + 0xDC00 if word[0] == "x" and code >= 0x80 else code)


def open_regular(path: Path | str, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; the caller closes it.

    Args:
        path: The file.
        follow: Follow links to a regular file; otherwise a link is refused.

    Raises:
        FileMissingError: It does not exist.
        FileReadError: It is not a regular file, or cannot be opened.
    """
    try:
        _check_kind(os.stat(path, follow_symlinks=follow), path)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        handle = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except FileReadError:
        raise
    except OSError as error:
        raise _as_read_error(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise FileReadError(f"is not a path: {error}", path, errno.EINVAL) from error
    try:
        _check_kind(os.fstat(handle), path)  # it may have been replaced in between
        return io.BufferedReader(_NonBlockingFile(handle, "rb"))
    except BaseException:
        os.close(handle)
        raise


class _NonBlockingFile(io.FileIO):
    """Raises instead of returning None when no data is available, as from `/proc/kmsg`.

    Such files have the type of a regular file, and readers do not expect None.
    """

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = super().readinto(buffer)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count

    def readall(self) -> bytes:
        data = super().readall()
        if data is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return data


def read_regular(
    path: Path | str,
    bytes_max: int,
    *,
    follow: bool = True,
    check: Callable[[bytes, int], None] | None = None,
) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: The file.
        bytes_max: A larger file is refused.
        follow: See `open_regular`.
        check: Called with the first bytes of a long file and its size before the rest is
            read; raises to refuse it.

    Raises:
        FileMissingError: It does not exist.
        FileReadError: It is not a regular file, is larger, cannot be read, or changed while
            it was being read.
    """
    with open_regular(path, follow=follow) as file:
        try:
            before = os.fstat(file.fileno())
            if before.st_size > bytes_max:
                raise _too_large(path, before.st_size, bytes_max)
            chunks: list[bytes] = []
            size = 0
            while chunk := file.read(min(_CHUNK_BYTES, bytes_max + 1 - size)):
                chunks.append(chunk)
                size += len(chunk)
                if size > bytes_max:  # it grows, or its file system reports no size
                    raise _too_large(path, size, bytes_max)
                if check is not None and len(chunks) == 1 and size == _CHUNK_BYTES:
                    check(chunk, before.st_size)
            after = os.fstat(file.fileno())
        except FileReadError:
            raise
        except OSError as error:
            raise _as_read_error(error, path) from error
    reported = after.st_size or size  # /proc reports a size of 0
    if size != reported or (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    ):
        raise FileReadError(
            "changed while it was being read",
            path,
            errno.EAGAIN,
            remedy="Read it again when the program that writes it is done",
        )
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def read_text(path: Path | str, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """Return the text of a regular UTF-8 file, with or without a byte order mark.

    Raises:
        FileReadError: See `read_regular`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return read_regular(path, bytes_max).decode("utf-8-sig")


def sha256_of(path: Path | str, bytes_max: int = MODEL_BYTES_MAX) -> str:
    """Return the SHA-256 of a regular file in hex; errors as of `read_regular`."""
    digest = hashlib.sha256()
    size = 0
    with open_regular(path) as file:
        try:
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(path, size, bytes_max)
                digest.update(chunk)
        except FileReadError:
            raise
        except OSError as error:
            raise _as_read_error(error, path) from error
    return digest.hexdigest()


def check_regular(path: Path | str) -> Path | str:
    """Return the path if it is a regular file, for a library that opens files by name.

    Raises:
        FileMissingError: It does not exist.
        FileReadError: It is not a regular file.
    """
    open_regular(path).close()
    return path


def is_regular(path: Path | str) -> bool:
    """True if a path is a regular file or a link to one; does not open it."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _check_kind(status: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown type")
        number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise NotRegularError(
            f"is {kind}, not a regular file",
            path,
            number,
            remedy="Name a regular file, or remove it",
        )


def _too_large(path: Path | str, size_bytes: int, bytes_max: int) -> FileReadError:
    return NotRegularError(
        f"is larger ({size_bytes} bytes) than the maximum of {bytes_max} bytes",
        path,
        errno.EFBIG,
        remedy="Check that it is the right file",
    )


def _as_read_error(error: OSError, path: Path | str) -> FileReadError:
    number = error.errno or errno.EIO
    words = error.strerror or str(error)
    missing = number in (errno.ENOENT, errno.ESTALE)
    kind = FileMissingError if missing else FileReadError
    return kind(f"cannot be read: {words}", path, number, strerror=words)


_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Bidirectional control characters."""


def _is_plain(character: str) -> bool:
    return character == " " or (character.isprintable() and character not in _BIDI_CONTROLS)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02X}"
    if character == "\\":
        return "\\\\"
    if _is_plain(character):
        return character
    if code < 0x80:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
