"""The errors of the project and their exit codes.

A message states what happened, where, and the remedy. Only the command line turns an error into
a process exit.

Source: exit codes follow sysexits(3); the units set `RestartPreventExitStatus=64 65 69 73 78`,
so that systemd restarts only what a restart can repair.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

EXIT_OK = 0
EXIT_USAGE = 64
EXIT_DATAERR = 65
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_CANTCREAT = 73
EXIT_TEMPFAIL = 75
EXIT_CONFIG = 78


class EdgeInspectError(Exception):
    """Base class of every error that the project raises on purpose.

    Args:
        what: What happened, in one sentence.
        where: File, device, address or configuration path.
        remedy: What the reader can do.
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
    """Images, masks or records are unreadable or contradict each other."""

    exit_code = EXIT_DATAERR


class ImpersonationError(DataError):
    """Messages in the line's name come from a process that is not the line."""


class ModelError(EdgeInspectError):
    """A model or engine is corrupt, violates the contract, or was refused."""

    exit_code = EXIT_DATAERR


class OutputError(EdgeInspectError):
    """A file or folder cannot be written, or is there already and is not replaced."""

    exit_code = EXIT_CANTCREAT


class InvariantError(EdgeInspectError):
    """`captured == pass + reject + no_verdict` does not hold."""

    exit_code = EXIT_DATAERR


def install_command(requirement: str) -> str:
    """Return the command that installs a requirement into this program's environment.

    In an activated environment `pip` is that of the environment; otherwise its path is named, as
    on a line PC, whose own pip would install elsewhere.
    """
    pip = os.path.join(sys.prefix, "bin", "pip")
    is_own = sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix
    command = "pip" if is_own or not os.path.exists(pip) else pip
    return shlex.join([command, "install", requirement])


class MissingExtraError(EdgeInspectError):
    """An optional dependency is not installed, or is and cannot be imported (its cause says why).

    Args:
        extra: Name of the extra that installs it.
        package: Import name that was not found.
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, extra: str, package: str, *, where: str = "") -> None:
        self.extra = extra
        self.package = package
        super().__init__(
            f"needs the package '{package}' of the extra '{extra}', which is not installed",
            where=where,
            remedy=f"Install it with: {install_command(f'edgeinspect[{extra}]')}",
        )

    def __str__(self) -> str:
        cause = self.__cause__
        if cause is None or isinstance(cause, ModuleNotFoundError):
            return super().__str__()
        # A shortage of memory, a missing system library, or a file that is damaged.
        where = f"{self.where}: " if self.where else ""
        reason = " ".join(str(cause).split())
        return (
            f"{where}the package '{self.package}' of the extra '{self.extra}' cannot be imported: "
            f"{reason[:200]}. If this stays, install a version of it that fits, or install it again"
        )


class MissingLibraryError(EdgeInspectError):
    """A library of the operating system is not installed.

    Args:
        library: File that could not be loaded.
        install: Command that installs it on Debian.
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, library: str, install: str, *, where: str = "") -> None:
        super().__init__(
            f"needs {library}, which is not installed", where=where, remedy=f"On Debian: {install}"
        )


class TransientError(EdgeInspectError):
    """Something is in use, not available yet, or without room at the moment."""

    exit_code = EXIT_TEMPFAIL


class InternalError(EdgeInspectError):
    """Two components of the program disagree: a bug."""


class EngineFault(EdgeInspectError):  # noqa: N818 - the field says fault
    """An engine failed on one inference. The frame gets NO_VERDICT(engine_error)."""

    exit_code = EXIT_TEMPFAIL


class SpoolError(EdgeInspectError):
    """The spool cannot be created or used."""

    exit_code = EXIT_TEMPFAIL


class StorageError(EdgeInspectError):
    """A service cannot write a file: the disk is full, read-only or gone, perhaps not for long."""

    exit_code = EXIT_TEMPFAIL


class DeviceLostError(EdgeInspectError):
    """A camera or a peer was lost and did not return within its retries."""

    exit_code = EXIT_TEMPFAIL


class AddressError(DeviceLostError):
    """An address is in use, or this PC does not have it yet; it may be bound later."""


class CameraLostError(DeviceLostError):
    """A camera stopped delivering: unplugged, unreachable, or its folder was removed."""


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One error in a configuration."""

    path: str
    """Where in the file, such as `decide.classes.pit.score`."""
    problem: str
    """What is wrong, with the allowed range."""
    value: str = ""
    """The value in the file, shortened; empty if the key is missing."""
    line: int | None = None
    """Line in the file, from 1; None if unknown."""

    def __str__(self) -> str:
        at = f"line {self.line}: " if self.line else ""
        value = f" (found {self.value})" if self.value else ""
        return f"{at}{self.path}: {self.problem}{value}"


class ConfigError(EdgeInspectError):
    """A configuration has faults; all of them are listed."""

    exit_code = EXIT_CONFIG

    def __init__(self, faults: Sequence[ConfigFault], *, where: str = "") -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        listing = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{count} fault{'s' * (count != 1)}\n{listing}", where=where)


class OverrideError(ConfigError):
    """A value that the command line sets in a configuration has faults; the file has none."""

    exit_code = EXIT_USAGE


class ConfigFileError(EdgeInspectError):
    """A configuration's file is missing, cannot be read, or is a file of another kind."""

    exit_code = EXIT_CONFIG


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
"""Errors of the operating system that may resolve by themselves: in use, absent, or scarce."""
_TRANSIENT_PHRASES = (
    "address already in use",
    "bad allocation",
    "bad_alloc",
    "can't alloc",
    "can't start new thread",
    "cannot allocate",
    "cannot assign requested address",
    "could not allocate",
    "cuda_error_out_of_memory",
    "database is locked",
    "database or disk is full",
    "database table is locked",
    "disk i/o error",
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
"""The same in the messages of libraries without error numbers: OpenVINO, ONNX Runtime, TensorRT
and CUDA, OpenCV, the loader, SQLite. Lower case."""


def is_transient(error: BaseException) -> bool:
    """Return whether an error may be gone when the program is started again.

    Its causes count as well, so that it does not matter which error a plugin raised from an
    `ENOMEM`.
    """
    return any(map(_is_transient_itself, _cause_chain(error)))


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for an error.

    64, 65, 69, 73 and 78 need a person, so systemd does not restart after them. An error of those
    kinds with a transient cause therefore has 75.
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
        # Its errno is a reason code of OpenSSL: a wrong key is 116, which is ESTALE elsewhere.
        return type(error).__name__ in ("SSLEOFError", "SSLSyscallError", "SSLZeroReturnError")
    if getattr(error, "errno", None) in _TRANSIENT_ERRNOS:  # OSError and zmq.ZMQError
        return True
    if isinstance(error, (EdgeInspectError, SyntaxError)):  # its message is not a library's
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return False
    message = str(error).lower()
    return any(phrase in message for phrase in _TRANSIENT_PHRASES)
