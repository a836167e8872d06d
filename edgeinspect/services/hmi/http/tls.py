"""TLS certificate and key, reloaded when they are renewed.

Each handshake uses the newest valid pair. A renewed pair is loaded into a new context first, so a
partial or broken one changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import ssl
import stat
from pathlib import Path
from typing import Any

import anyio
import structlog

from edgeinspect.config import ConfigSection
from edgeinspect.errors import ConfigError, ConfigFault, DataError
from edgeinspect.services.hmi.alarm_remedies import CERTIFICATE_REFUSED
from edgeinspect.system import log_events

_log = structlog.get_logger()
_CHECK_PERIOD_S = 10.0
_MAX_PEM_BYTES = 1 << 20
_PEM_BEGIN = b"-----BEGIN "


class TlsConfig(ConfigSection, frozen=True):
    """The certificate of the HTTP server."""

    certificate: str
    """PEM file."""
    key: str
    """PEM file with the private key, without a password; mode 0600, or 0640 with the HMI's
    group."""


def load_tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """Return a server context with a certificate and its key; TLS 1.2 or newer.

    Raises:
        DataError: A file cannot be read, others can read the key, it needs a password, or it is
            not the certificate's.
    """
    certificate, key = Path(tls.certificate), Path(tls.key)
    _read_pem(certificate)
    mode, text = _read_pem(key)
    if mode & 0o007:
        raise DataError(
            "is readable by all users",
            where=str(key),
            remedy=f"chmod 600 {shlex.quote(str(key))}, or 640 with the HMI's group",
        )
    has_asked = False

    def no_password() -> str:
        nonlocal has_asked
        has_asked = True
        return ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        if has_asked:
            raise DataError(
                "is protected by a password",
                where=str(key),
                remedy=f"openssl pkey -in {shlex.quote(str(key))} -out PLAIN.key, mode 0600",
            ) from error
        if "MISMATCH" in (error.reason or ""):
            raise DataError(f"is not the key of {certificate}", where=str(key)) from error
        broken = key if _PEM_BEGIN not in text else certificate
        raise DataError(
            f"contains nothing that TLS can use ({error.reason or 'incomplete'})",
            where=str(broken),
            remedy="Certificate and key must be complete PEM files",
        ) from error
    return context


def _read_pem(path: Path) -> tuple[int, bytes]:
    """Return (mode, content) of a small regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise DataError("is not a file", where=str(path))
            data = file.read(_MAX_PEM_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(data) > _MAX_PEM_BYTES:
        raise DataError("is too large for a PEM file", where=str(path))
    return status.st_mode, data


class RenewableCertificate:
    """The pair in use; `run` checks for a renewed one. One event loop.

    Args:
        tls: The files.

    Raises:
        ConfigError: The pair cannot be used.
    """

    def __init__(self, tls: TlsConfig) -> None:
        self._tls = tls
        self._loaded_stamp = self._file_stamp()
        try:
            self._current_context = load_tls_context(tls)
        except DataError as error:
            raise ConfigError([ConfigFault("tls", str(error))], where=tls.certificate) from error
        self.context = load_tls_context(tls)
        """For the server; each handshake switches to the newest pair."""
        self.context.sni_callback = self._on_handshake
        self._check_requested = asyncio.Event()
        self._refused_stamp: object = None
        self.problem = ""
        """Why a renewed pair cannot be used; empty for none."""

    def alarm(self) -> str:
        """Return the text of the active alarm; empty for none."""
        return f"{CERTIFICATE_REFUSED}: {self.problem}" if self.problem else ""

    def request_check(self) -> None:
        """Check for a renewed pair now, and report a problem at once."""
        self._check_requested.set()

    async def run(self) -> None:
        """Check for a renewed pair every ten seconds, until cancelled."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._check_requested.wait(), _CHECK_PERIOD_S)
            is_requested = self._check_requested.is_set()
            self._check_requested.clear()
            await self.reload(report_now=is_requested)

    async def reload(self, *, report_now: bool = False) -> None:
        """Load a renewed pair, if there is one.

        Args:
            report_now: Report a problem now, not only if it persists until the next check.
        """
        stamp = await anyio.to_thread.run_sync(self._file_stamp)
        if stamp == self._loaded_stamp:
            self.problem, self._refused_stamp = "", None
            return
        try:
            self._current_context = await anyio.to_thread.run_sync(load_tls_context, self._tls)
        except DataError as error:
            # Certificate and key are renewed one after the other: reported only if it persists.
            if (report_now or stamp == self._refused_stamp) and self.problem != str(error):
                self.problem = str(error)
                _log.error(log_events.CERTIFICATE_REFUSED, problem=self.problem)
            self._refused_stamp = stamp
            return
        self._loaded_stamp, self._refused_stamp, self.problem = stamp, None, ""
        _log.info(log_events.CERTIFICATE_RENEWED, certificate=self._tls.certificate)

    def _on_handshake(self, handshake: ssl.SSLObject, _name: Any, _context: ssl.SSLContext) -> None:
        handshake.context = self._current_context

    def _file_stamp(self) -> tuple[object, ...]:
        """Return a value that changes with the files."""
        stamp: list[object] = []
        for path in (self._tls.certificate, self._tls.key):
            try:
                status = os.stat(path)
                stamp.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode))
            except OSError as error:
                stamp.append(error.errno)
        return tuple(stamp)
