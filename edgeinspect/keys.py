"""CURVE keys: a folder with the server's pair and the public keys of the clients let in.

    <folder>/server.key          the server's public key, to give to clients
    <folder>/server.key_secret   its secret, mode 0600
    <folder>/clients/NAME.key    one public key per client that may connect

A client that is added or removed is let in or kept out within a second, without restart.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import structlog
import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

from edgeinspect import events
from edgeinspect.errors import DataError, UsageError

Socket = zmq.Socket[bytes]
_log = structlog.get_logger()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVER = "server"


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair `NAME.key`, `NAME.key_secret`.

    Returns:
        (public, secret) files; the secret is readable by its owner alone.

    Raises:
        UsageError: The name is not one, or the pair exists: keys are never overwritten.
    """
    _check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / f"{name}.key_secret"
    if secret.exists():
        raise UsageError("exists already; keys are not overwritten", where=str(secret))
    before = os.umask(0o077)
    try:
        public_name, secret_name = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    os.chmod(public_name, 0o644)
    return Path(public_name), Path(secret_name)


def make_server(folder: Path) -> Path:
    """Make a line's key folder; returns the public key that clients need."""
    public, _secret = make_pair(folder, _SERVER)
    (folder / "clients").mkdir(exist_ok=True)
    return public


def allow(folder: Path, public: Path, name: str | None = None) -> Path:
    """Let a client in, by its public key file.

    Raises:
        DataError: The file holds no public key, or a secret one: that must stay where it is.
    """
    name = name or public.stem
    _check_name(name)
    key, secret = _read(public)
    if secret is not None:
        raise DataError(
            "holds a secret key", where=str(public), remedy="Give the public file (.key)"
        )
    clients = folder / "clients"
    clients.mkdir(parents=True, exist_ok=True)
    target = clients / f"{name}.key"
    fresh = target.with_suffix(".new")
    fresh.write_text(f'metadata\ncurve\n    public-key = "{key.decode()}"\n', encoding="utf-8")
    fresh.replace(target)
    return target


def clients(folder: Path) -> dict[str, str]:
    """Name to public key of every client that is let in."""
    found = {}
    for path in sorted((folder / "clients").glob("*.key")):
        found[path.stem] = _read(path)[0].decode()
    return found


def as_client(own_secret: Path, server_public: Path, socket: Socket) -> None:
    """Put a client's keys on a socket, before it connects.

    Raises:
        DataError: A file cannot be read or holds no such key.
    """
    public, secret = _read(own_secret)
    if secret is None:
        raise DataError("holds no secret key", where=str(own_secret))
    socket.curve_publickey = public
    socket.curve_secretkey = secret
    socket.curve_serverkey = _read(server_public)[0]


class Doorkeeper:
    """Lets known clients into the sockets of one context, and logs the others.

    `prepare` before binding; `refresh` now and then from any one thread; `close` at the end.
    """

    def __init__(self, folder: Path) -> None:
        """Read the server's keys.

        Raises:
            DataError: They are missing, or their secret can be read by others.
        """
        self.refused = 0
        """Clients that were turned away."""
        self._folder = folder
        secret_path = folder / f"{_SERVER}.key_secret"
        self._public, self._secret = _read(secret_path)
        if self._secret is None:
            raise DataError("holds no secret key", where=str(secret_path))
        if secret_path.stat().st_mode & 0o077:
            raise DataError(
                "can be read by others than its owner",
                where=str(secret_path),
                remedy=f"chmod 600 {secret_path}",
            )
        self._authenticators: list[ThreadAuthenticator] = []
        self._monitors: list[Socket] = []
        self._seen: object = None

    def prepare(self, context: zmq.Context[Socket], socket: Socket) -> None:
        """Make a socket a CURVE server that only known clients get into."""
        authenticator = ThreadAuthenticator(context, log=_ZapLog(self))
        authenticator.start()
        self._authenticators.append(authenticator)
        authenticator.configure_curve(domain="*", location=str(self._folder / "clients"))
        socket.curve_server = True
        socket.curve_secretkey = self._secret
        socket.curve_publickey = self._public
        socket.zap_domain = b"edgeinspect"
        monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        self._monitors.append(monitor)

    def refresh(self) -> None:
        """Take changes of the folder in, and log who was turned away."""
        state = tuple(
            (path.name, path.stat().st_mtime_ns)
            for path in sorted((self._folder / "clients").glob("*.key"))
        )
        if state != self._seen:
            self._seen = state
            for authenticator in self._authenticators:
                authenticator.configure_curve(domain="*", location=str(self._folder / "clients"))
        for monitor in self._monitors:
            while monitor.poll(0):
                monitor.recv_multipart()
                self.turn_away("no key, or no CURVE")

    def turn_away(self, why: str) -> None:
        """Count and log a client that is not let in."""
        self.refused += 1
        _log.warning(events.CLIENT_REFUSED, problem=why, refused=self.refused)

    def close(self) -> None:
        """Stop the authenticators, before their contexts end."""
        for monitor in self._monitors:
            monitor.close(0)
        for authenticator in self._authenticators:
            authenticator.stop()


class _ZapLog(logging.Logger):
    """Hears the authenticator's own log for the one line that matters."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        super().__init__("zap", logging.INFO)
        self._doorkeeper = doorkeeper

    def handle(self, record: logging.LogRecord) -> None:
        if "DENIED" in record.getMessage():
            self._doorkeeper.turn_away("unknown key")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            "is no name for a key", where=name, remedy="Use letters, digits, '.', '_' and '-'"
        )


def _read(path: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"is no key: {error}",
            where=str(path),
            remedy="Make one with `edgeinspect keys new`",
        ) from error
    if public is None:
        raise DataError("holds no public key", where=str(path))
    return public, secret
