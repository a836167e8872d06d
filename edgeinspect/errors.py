"""The error tree and its exit codes.

A message says what happened, where, and what to do. Only the command line turns an
error into a process exit; everything below raises.

Source: exit codes follow sysexits(3); the units set
``RestartPreventExitStatus=64 65 69 78`` so that systemd restarts what a restart can mend.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_DATAERR = 65
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_TEMPFAIL = 75
EXIT_CONFIG = 78


class EdgeInspectError(Exception):
    """Root of every error the project raises on purpose.

    Args:
        what: What happened, in one sentence.
        where: File, device, address or configuration path it happened at.
        remedy: What the reader can do about it.
    """

    exit_code: ClassVar[int] = EXIT_SOFTWARE

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.remedy}" if self.remedy else text


class UsageError(EdgeInspectError):
    """The command was called in a way that cannot work."""

    exit_code = EXIT_USAGE


class DataError(EdgeInspectError):
    """Pictures, masks or records are unreadable or contradict each other."""

    exit_code = EXIT_DATAERR


class ImpersonationError(DataError):
    """Somebody who is not seen to be the line speaks in its name."""


class ModelError(EdgeInspectError):
    """A model or engine is corrupt, breaks the contract, or was refused."""

    exit_code = EXIT_DATAERR


class InvariantError(EdgeInspectError):
    """`captured == pass + reject + no_verdict` does not hold."""

    exit_code = EXIT_DATAERR


class MissingExtraError(EdgeInspectError):
    """An optional dependency is not installed.

    Args:
        extra: Name of the extra that brings it (`pip install 'edgeinspect[extra]'`).
        package: Import name that was not found.
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, extra: str, package: str, *, where: str = "") -> None:
        self.extra = extra
        self.package = package
        super().__init__(
            f"needs the package '{package}' of the extra '{extra}', which is not installed",
            where=where,
            remedy=f"Install it with: pip install 'edgeinspect[{extra}]'",
        )


class MissingLibraryError(EdgeInspectError):
    """A library of the system, which no extra can bring, is not installed.

    Args:
        library: File that could not be loaded.
        install: Command that brings it on Debian.
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, library: str, install: str, *, where: str = "") -> None:
        super().__init__(
            f"needs {library}, which is not installed", where=where, remedy=f"On Debian: {install}"
        )


class TransientError(EdgeInspectError):
    """Something that is in use, or not there yet, or for which there is no room just now."""

    exit_code = EXIT_TEMPFAIL


class InternalError(EdgeInspectError):
    """A promise between two parts of the program was broken: a bug."""


class EngineFault(EdgeInspectError):  # noqa: N818 - the field says fault
    """An engine failed on one inference. The flow turns it into NO_VERDICT(engine_error)."""

    exit_code = EXIT_TEMPFAIL


class SpoolError(EdgeInspectError):
    """The spool cannot do what was asked of it."""

    exit_code = EXIT_TEMPFAIL


class StorageError(EdgeInspectError):
    """A file cannot be written: the disk is full, read-only or gone."""

    exit_code = EXIT_TEMPFAIL


class DeviceLostError(EdgeInspectError):
    """A camera or a peer went away and did not come back within its retries."""

    exit_code = EXIT_TEMPFAIL


class AddressError(DeviceLostError):
    """An address is in use, or this PC does not have it yet: it can be bound later."""


class CameraLostError(DeviceLostError):
    """A camera stopped delivering: unplugged, unreachable, or its folder is gone."""


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing wrong with a configuration."""

    path: str
    """Where in the file, as `decide.classes.pit.score`."""
    problem: str
    """What is wrong, with the allowed range."""
    value: str = ""
    """What stands there, shortened; empty when the key is missing."""
    line: int | None = None
    """Line in the file, counted from 1, when known."""

    def __str__(self) -> str:
        at = f"line {self.line}: " if self.line else ""
        found = f" (found {self.value})" if self.value else ""
        return f"{at}{self.path}: {self.problem}{found}"


class ConfigError(EdgeInspectError):
    """A configuration has one or more faults; all of them are listed."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: Sequence[ConfigFault], *, where: str = "") -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        listing = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{count} fault{'s' * (count != 1)}\n{listing}", where=where)


_TRANSIENT_ERRNOS = frozenset(
    {
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EDQUOT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EREMOTEIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ETXTBSY,
    }
)
"""What the system says of a thing that is in use, away, or scarce: all may pass by itself."""
_TRANSIENT_PHRASES = (
    "address already in use",
    "bad allocation",
    "bad_alloc",
    "can't allocate",
    "can't start new thread",
    "cannot allocate",
    "cannot assign requested address",
    "could not allocate",
    "cuda_error_out_of_memory",
    "database is locked",
    "database table is locked",
    "failed to allocate",
    "failed to map segment",
    "input/output error",
    "insufficient memory",
    "no space left on device",
    "not enough memory",
    "out of memory",
    "resource temporarily unavailable",
    "too many open files",
    "unable to allocate",
)
"""The same in the words of libraries that have no number for it: OpenVINO, ONNX Runtime,
TensorRT and CUDA, OpenCV, the loader, SQLite. Lower case."""


def is_transient(error: BaseException) -> bool:
    """Whether an error may be gone by itself when the program is started again.

    Looked for in the error and in all that caused it, so that it does not matter which of our
    errors a part has made of `ENOMEM`.
    """
    return any(map(_is_transient_itself, _cause_chain(error)))


def exit_code_of(error: BaseException) -> int:
    """The code that a process ends with.

    64, 65, 69 and 78 are for what a person must mend: systemd never tries again. So an error
    of those kinds that rests on something transient ends with 75.
    """
    if is_transient(error):
        return EXIT_TEMPFAIL
    return error.exit_code if isinstance(error, EdgeInspectError) else EXIT_SOFTWARE


def _cause_chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in seen:
        seen.add(id(now))
        yield now
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)


def _is_transient_itself(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, TransientError)):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if any(kind.__module__ == "ssl" for kind in type(error).__mro__):
        # Its errno counts OpenSSL's own reasons: a wrong key is 116, which is ESTALE elsewhere.
        return type(error).__name__ in ("SSLEOFError", "SSLSyscallError", "SSLZeroReturnError")
    if getattr(error, "errno", None) in _TRANSIENT_ERRNOS:  # OSError, and ZeroMQ's own
        return True
    if isinstance(error, (EdgeInspectError, SyntaxError)):  # its words are about something else
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    words = str(error).lower()
    return any(each in words for each in _TRANSIENT_PHRASES)
