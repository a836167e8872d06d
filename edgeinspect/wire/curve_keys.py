"""CURVE keys: a folder with the server's key pair and the public keys of authorised clients.

    <folder>/server.key          the server's public key, to give to clients
    <folder>/server.key_secret   its secret, mode 0600
    <folder>/clients/NAME.key    one public key per authorised client

`curve_authenticator.py` admits clients by these keys.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.system import (
    list_matching,
    read_regular,
    write_atomic,
)
from edgeinspect.wire.zap import Socket

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVER = "server"
_KEY_CHARACTERS = 40
_FILE_BYTES_MAX = 1 << 16
_ACL_ATTRIBUTE = "system.posix_acl_access"


def create_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Create a key pair `NAME.key`, `NAME.key_secret`.

    Returns:
        The (public, secret) files; only its owner can read the secret one.

    Raises:
        UsageError: The name is invalid.
        OutputError: The pair exists: keys are never overwritten.
    """
    _check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / f"{name}.key_secret"
    if secret.exists():
        raise OutputError("exists already; keys are not overwritten", where=str(secret))
    before = os.umask(0o077)
    try:
        public_name, secret_name = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    os.chmod(public_name, 0o644)
    return Path(public_name), Path(secret_name)


def create_server_keys(folder: Path) -> Path:
    """Create a line's key folder; return the public key file that clients need."""
    public, _secret = create_key_pair(folder, _SERVER)
    (folder / "clients").mkdir(exist_ok=True)
    return public


def add_client(folder: Path, public: Path, name: str | None = None) -> Path:
    """Authorise a client by its public key file.

    Raises:
        DataError: The file has no public key, or a secret one, which must not be copied.
    """
    name = name or public.stem
    _check_name(name)
    key, secret = read_key_file(public)
    if secret is not None:
        raise DataError("has a secret key", where=str(public), remedy="Give the public file (.key)")
    clients = folder / "clients"
    clients.mkdir(parents=True, exist_ok=True)
    target = clients / f"{name}.key"
    write_atomic(target, f'metadata\ncurve\n    public-key = "{key.decode()}"\n'.encode())
    return target


def read_clients(folder: Path) -> dict[str, str]:
    """Return the public key of every authorised client by its name.

    Raises:
        DataError: There is no such folder, or a file in it has no key.
    """
    if not folder.is_dir():
        raise DataError(
            "is no folder", where=str(folder), remedy="Create it with `edgeinspect keys new`"
        )
    keys = {}
    for path in list_matching(folder / "clients", "*.key"):
        keys[path.stem] = read_key_file(path)[0].decode()
    return keys


def use_client_keys(own_secret: Path, server_public: Path, socket: Socket) -> None:
    """Set a client's keys on a socket before it connects.

    Raises:
        DataError: A file cannot be read, has no such key, or is a secret that others can read.
    """
    public, secret = read_secret_key(own_secret)
    socket.curve_publickey = public
    socket.curve_secretkey = secret
    socket.curve_serverkey = read_key_file(server_public)[0]


def read_server_keys(folder: Path) -> tuple[bytes, bytes]:
    """Return the line's own (public, secret) key; raises as `read_secret_key`.

    A credential of the systemd unit comes first: then the secret in the folder may belong to
    root, where no service can read it.
    """
    name = f"{_SERVER}.key_secret"
    return read_secret_key(credential_path(name) or folder / name)


def credential_path(name: str) -> Path | None:
    """Return the path of a credential of the unit; None without one, or if it is `none`.

    Source: systemd.exec(5), LoadCredential= and SetCredential=
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    if path is None or not path.is_file() or read_regular(path, _FILE_BYTES_MAX).strip() == b"none":
        return None
    return path


def read_secret_key(path: Path) -> tuple[bytes, bytes]:
    """Read a key pair from a secret file.

    Raises:
        DataError: It cannot be read, has no secret key, or can be read by others.
    """
    public, secret = read_key_file(path)
    if secret is None:
        raise DataError(
            "has no secret key", where=str(path), remedy="Give the file NAME.key_secret"
        )
    mode = path.stat().st_mode
    # With an access list, as of systemd's credentials, the group's bits are its mask.
    if mode & 0o007 or (mode & 0o070 and _ACL_ATTRIBUTE not in os.listxattr(path)):
        raise DataError(
            "can be read by others than its owner",
            where=str(path),
            remedy=f"chmod 600 {shlex.quote(str(path))}",
        )
    return public, secret


def _check_name(name: str) -> None:
    if not _KEY_NAME.fullmatch(name):
        raise UsageError(
            "is not a valid key name", where=name, remedy="Use letters, digits, '.', '_' and '-'"
        )


def read_key_file(path: Path) -> tuple[bytes, bytes | None]:
    """Read the public key of a file, and its secret one if it has one, as Z85 text.

    Raises:
        DataError: It cannot be read or has no key.
    """
    try:
        read_regular(path, _FILE_BYTES_MAX)  # regular and not too large
        public, secret = zmq.auth.load_certificate(path)
        for key in (public, secret):
            if key is not None and (len(key) != _KEY_CHARACTERS or len(z85.decode(key)) != 32):
                raise ValueError(f"a key has {_KEY_CHARACTERS} characters of Z85")
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise DataError(
            f"is not a key: {error}",
            where=str(path),
            remedy="Create one with `edgeinspect keys new`",
        ) from error
    return public, secret
