"""TLS: what the page proves itself with, checked before it is used and again when it is renewed.

A handshake takes the newest good pair. A pair that is renewed on the disk is read into a
context of its own first, so a half-written or broken one changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import stat
from pathlib import Path
from typing import Any

import anyio
import structlog

from edgeinspect.errors import ConfigError, ConfigFault, DataError
from edgeinspect.services.hmi.alarm_remedies import CERTIFICATE_REFUSED
from edgeinspect.services.hmi.http.config import TlsConfig
from edgeinspect.system import log_events

_log = structlog.get_logger()
_CHECK_PERIOD_S = 10.0
_MAX_PEM_BYTES = 1 << 20
_PEM_BEGIN = b"-----BEGIN "


def load_tls_context(tls: TlsConfig) -> ssl.SSLContext:
    """A context that proves itself with a certificate and its key; TLS 1.2 at least.

    Raises:
        DataError: A file cannot be read, others can read the key, it needs a password, or it is
            not the certificate's.
    """
    certificate, key = Path(tls.certificate), Path(tls.key)
    _read_pem(certificate)
    mode, text = _read_pem(key)
    if mode & 0o007:
        raise DataError(
            "can be read by everybody",
            where=str(key),
            remedy=f"chmod 600 {key}, or 640 with the page's own group",
        )
    asked = False

    def no_password() -> str:
        nonlocal asked
        asked = True
        return ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        if asked:
            raise DataError(
                "needs a password, and nobody is there to give one",
                where=str(key),
                remedy=f"openssl pkey -in {key} -out PLAIN.key, mode 0600",
            ) from error
        if "MISMATCH" in (error.reason or ""):
            raise DataError(f"is not the key of {certificate}", where=str(key)) from error
        broken = key if _PEM_BEGIN not in text else certificate
        raise DataError(
            f"holds nothing that TLS can use ({error.reason or 'not whole'})",
            where=str(broken),
            remedy="A certificate and its key are whole PEM files",
        ) from error
    return context


def _read_pem(path: Path) -> tuple[int, bytes]:
    """(mode, bytes) of a small regular file."""
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
    """The pair in use. `run` looks for a renewed one; the loop's own otherwise.

    Args:
        tls: Where it is.

    Raises:
        ConfigError: It cannot be used.
    """

    def __init__(self, tls: TlsConfig) -> None:
        self._tls = tls
        self._loaded_stamp = self._file_stamp()
        try:
            self._current_context = load_tls_context(tls)
        except DataError as error:
            raise ConfigError([ConfigFault("tls", str(error))], where=tls.certificate) from error
        self.context = load_tls_context(tls)
        """For the server: takes each handshake's pair from here."""
        self.context.sni_callback = self._on_handshake
        self._check_requested = asyncio.Event()
        self._refused_stamp: object = None
        self.problem = ""
        """Why a renewed pair was not taken; empty while all is well."""

    def alarm(self) -> str:
        """What a person must be told; empty while all is well."""
        return f"{CERTIFICATE_REFUSED}: {self.problem}" if self.problem else ""

    def request_check(self) -> None:
        """Look now, and say at once what is wrong."""
        self._check_requested.set()

    async def run(self) -> None:
        """The task, until cancelled."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._check_requested.wait(), _CHECK_PERIOD_S)
            asked = self._check_requested.is_set()
            self._check_requested.clear()
            await self.reload(report_now=asked)

    async def reload(self, *, report_now: bool = False) -> None:
        """Take a renewed pair, if there is one.

        Args:
            at_once: Say what is wrong with it now, not when it is still so at the next look.
        """
        stamp = await anyio.to_thread.run_sync(self._file_stamp)
        if stamp == self._loaded_stamp:
            self.problem, self._refused_stamp = "", None
            return
        try:
            self._current_context = await anyio.to_thread.run_sync(load_tls_context, self._tls)
        except DataError as error:
            # Certificate and key are renewed one after the other: said when it stays so.
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
        """What changes when one of the files does."""
        found: list[object] = []
        for path in (self._tls.certificate, self._tls.key):
            try:
                status = os.stat(path)
                found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode))
            except OSError as error:
                found.append(error.errno)
        return tuple(found)
