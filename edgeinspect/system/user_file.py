"""Who may log in: names, roles and hashed passwords in one file of mode 0600.

Passwords are hashed with scrypt (N = 2^15, r = 8, p = 1: 32 MiB and some 0.1 s a try).
Source: RFC 7914; OWASP's password storage cheat sheet.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from base64 import b64decode, b64encode
from enum import Enum
from pathlib import Path
from typing import Literal

import msgspec

from edgeinspect.errors import DataError, UsageError
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.regular_file import TEXT_BYTES_MAX, read_regular

PASSWORD_MIN_CHARACTERS = 10
PASSWORD_MAX_CHARACTERS = 128
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_N, _R, _P, _BYTES = 1 << 15, 8, 1, 32
_MEMORY = 128 * _N * _R * 2


class Role(str, Enum):
    """What somebody who has logged in may do; each may do what the one before may."""

    VIEWER = "viewer"
    """Nothing more than anybody."""
    OPERATOR = "operator"
    """Acknowledge alarms, send challenge parts."""
    ENGINEER = "engineer"
    """Promote versions of the engines."""

    def covers(self, wanted: Role) -> bool:
        """True if this role may do what `wanted` may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person."""

    role: Role
    salt: str
    hash: str


class _StoredUsers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1] = 1
    users: dict[str, User] = {}


class UserFile:
    """The file of users, read anew at each question: who is struck from it is out at once.

    Args:
        path: The file; None for a page on which nobody can log in.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def read(self) -> dict[str, User]:
        """Everybody in the file; nobody if there is none.

        Raises:
            DataError: It cannot be read, is damaged, or others than its owner can read it.
        """
        if self.path is None:
            return {}
        try:
            mode = self.path.stat().st_mode
            found = decode_json(read_regular(self.path, TEXT_BYTES_MAX), _StoredUsers)
        except FileNotFoundError:
            return {}
        except (OSError, DecodeError) as error:
            raise DataError(f"the users cannot be read: {error}", where=str(self.path)) from error
        if mode & 0o007:
            raise DataError(
                "can be read by everybody", where=str(self.path), remedy=f"chmod 640 {self.path}"
            )
        return found.users

    def authenticate(self, name: str, password: str) -> User | None:
        """The user, if name and password are right; takes as long if they are not.

        Raises:
            DataError: As `read`.
        """
        user = self.read().get(name)
        known = user if user is not None else _UNKNOWN_USER
        right = hmac.compare_digest(_hash(password, b64decode(known.salt)), b64decode(known.hash))
        return user if right else None

    def add_or_update(self, name: str, role: Role, password: str) -> None:
        """Add a user, or give one another password and role.

        Raises:
            UsageError: The name or the password cannot be one.
            DataError: The file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "is no name", where=name, remedy="Use lower-case letters, digits, '.', '_' and '-'"
            )
        if not PASSWORD_MIN_CHARACTERS <= len(password) <= PASSWORD_MAX_CHARACTERS:
            raise UsageError(
                f"a password has {PASSWORD_MIN_CHARACTERS} to {PASSWORD_MAX_CHARACTERS} characters",
                remedy="Four words that have nothing to do with each other are a good one",
            )
        salt = secrets.token_bytes(16)
        user = User(role, b64encode(salt).decode(), b64encode(_hash(password, salt)).decode())
        self._write({**self.read(), name: user})

    def remove(self, name: str) -> None:
        """Strike a user.

        Raises:
            UsageError: There is none of that name.
            DataError: As `set`.
        """
        users = self.read()
        if users.pop(name, None) is None:
            raise UsageError("is no user", where=name, remedy=f"There are: {', '.join(users)}")
        self._write(users)

    def _write(self, users: dict[str, User]) -> None:
        if self.path is None:
            raise UsageError(
                "no file of users is named", remedy="Add `users: FILE` to the configuration"
            )
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        text = msgspec.json.format(msgspec.json.encode(_StoredUsers(users=users)), indent=2) + b"\n"
        try:
            mode = self.path.stat().st_mode & 0o770 if self.path.exists() else 0o600
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise DataError(f"cannot be written: {error.strerror}", where=str(self.path)) from error


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY, dklen=_BYTES
    )


_UNKNOWN_USER = User(Role.VIEWER, b64encode(bytes(16)).decode(), b64encode(bytes(_BYTES)).decode())
