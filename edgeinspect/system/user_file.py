"""Users: names, roles and hashed passwords in one file of mode 0600.

Passwords are hashed with scrypt (N = 2^15, r = 8, p = 1: 32 MiB and about 0.1 s per attempt).
Source: RFC 7914; OWASP's password storage cheat sheet.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import shlex
from base64 import b64decode, b64encode
from enum import Enum
from pathlib import Path
from typing import Literal

import msgspec

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.files import write_atomic
from edgeinspect.system.regular_file import TEXT_BYTES_MAX, read_regular

PASSWORD_MIN_CHARACTERS = 10
PASSWORD_MAX_CHARACTERS = 128
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_N, _R, _P, _BYTES = 1 << 15, 8, 1, 32
_MEMORY = 128 * _N * _R * 2


class Role(str, Enum):
    """Permissions of a user, in ascending order; each includes those before it."""

    VIEWER = "viewer"
    """Only what needs no login."""
    OPERATOR = "operator"
    """Acknowledge alarms, send challenge parts."""
    ENGINEER = "engineer"
    """Promote model versions."""

    def covers(self, wanted: Role) -> bool:
        """True if this role includes `wanted`."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user."""

    role: Role
    salt: str
    hash: str


class _StoredUsers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = 1
    users: dict[str, User] = {}


class UserFile:
    """The file of users. Re-read on each request: a removed user loses access immediately.

    Args:
        path: The file; None if logging in is not configured.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> dict[str, User]:
        """Return all users by name; empty if the file does not exist.

        Raises:
            DataError: It cannot be read, is damaged, or can be read by other users.
        """
        if self.path is None:
            return {}
        try:
            mode = self.path.stat().st_mode
            found = decode_json(read_regular(self.path, TEXT_BYTES_MAX), _StoredUsers)
        except FileNotFoundError:
            return {}
        except (OSError, DecodeError) as error:
            raise DataError(
                f"the user file cannot be read: {error}", where=str(self.path)
            ) from error
        if mode & 0o007:
            raise DataError(
                "can be read by all users",
                where=str(self.path),
                remedy=f"chmod 640 {shlex.quote(str(self.path))}",
            )
        return found.users

    def authenticate(self, name: str, password: str) -> User | None:
        """Return the user if name and password are correct, in constant time.

        Raises:
            DataError: See `read`.
        """
        user = self.read().get(name)
        stored = user if user is not None else _UNKNOWN_USER
        expected = b64decode(stored.hash)
        is_correct = hmac.compare_digest(_hash(password, b64decode(stored.salt)), expected)
        return user if is_correct else None

    def add_or_update(self, name: str, role: Role, password: str) -> None:
        """Add a user, or change the password and role of one.

        Raises:
            UsageError: The name or the password is not allowed.
            DataError: The file cannot be read.
            OutputError: It cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "is not a valid name",
                where=name,
                remedy="Use lower-case letters, digits, '.', '_' and '-'",
            )
        if not PASSWORD_MIN_CHARACTERS <= len(password) <= PASSWORD_MAX_CHARACTERS:
            raise UsageError(
                f"a password has {PASSWORD_MIN_CHARACTERS} to {PASSWORD_MAX_CHARACTERS} characters",
                remedy="Four unrelated words make a good password",
            )
        salt = secrets.token_bytes(16)
        user = User(role, b64encode(salt).decode(), b64encode(_hash(password, salt)).decode())
        self._write({**self.read(), name: user})

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises:
            UsageError: There is no user of that name.
            DataError: See `add_or_update`.
        """
        users = self.read()
        if users.pop(name, None) is None:
            raise UsageError("is not a user", where=name, remedy=f"There are: {', '.join(users)}")
        self._write(users)

    def _write(self, users: dict[str, User]) -> None:
        if self.path is None:
            raise UsageError(
                "no user file is configured", remedy="Add `users: FILE` to the configuration"
            )
        text = msgspec.json.format(msgspec.json.encode(_StoredUsers(users=users)), indent=2) + b"\n"
        try:
            mode = self.path.stat().st_mode & 0o770 if self.path.exists() else 0o600
            write_atomic(self.path, text, mode=mode, durable=True)
        except OSError as error:
            raise OutputError(
                f"cannot be written: {error.strerror}", where=str(self.path)
            ) from error


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=_BYTES
    )


_UNKNOWN_USER = User(Role.VIEWER, b64encode(bytes(16)).decode(), b64encode(bytes(_BYTES)).decode())
