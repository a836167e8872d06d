"""One model's versions, and the small file that says which of them is live.

`state.json` stands beside the versions. It is written to another name, flushed to the disk
and renamed, under a lock, so that a reader sees the old one or the new one and a power cut
leaves one of the two.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Literal

import msgspec

from edgeinspect.domain.numbers import Int64
from edgeinspect.errors import ModelError
from edgeinspect.storage.model_store.manifest import MANIFEST
from edgeinspect.storage.model_store.permissions import check_trust
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.regular_file import TEXT_BYTES_MAX, read_regular, sha256_of

STATE = "state.json"
ACTOR = "EDGEINSPECT_ACTOR"
"""Environment variable: the person for whom a program changes the store."""
_LOCK = ".state.lock"
_VERSION = re.compile("[1-9][0-9]{0,8}")
_KEPT_BEFORE = 64
_KEPT_HISTORY = 1000


class State(str, Enum):
    """What a version may do."""

    CANDIDATE = "candidate"
    """Nothing yet."""
    SHADOW = "shadow"
    """Judges in slack time what the live one judged; nobody acts on it."""
    LIVE = "live"
    """Judges. One version of each model."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a model's history."""

    at: str
    """UTC, ISO 8601."""
    who: str
    did: Literal["promote", "rollback", "shadow", "unshadow", "reseal", "remove"]
    version: Int64
    live: Int64
    """The live version after it."""
    why: str = ""


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `state.json` says."""

    schema: Literal[1] = 1
    live: Int64
    shadow: Int64 | None = None
    before: tuple[Int64, ...] = ()
    """Versions that were live before, the last one last: what `rollback` goes back to."""
    seals: dict[Int64, str] = {}
    """SHA-256 of the manifest of each version that was promoted or put into shadow."""
    history: tuple[Change, ...] = ()

    def state(self, version: int) -> State:
        """What one version may do."""
        if version == self.live:
            return State.LIVE
        return State.SHADOW if version == self.shadow else State.CANDIDATE


class Shelf:
    """The versions of one model. Stateless but for its folder; changes are locked.

    Args:
        folder: `<store>/<name>`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    def versions(self) -> tuple[int, ...]:
        """Versions that have a manifest, oldest first."""
        found = (path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        return tuple(sorted(int(name) for name in found if _VERSION.fullmatch(name)))

    def register(self) -> Register:
        """What the state file says; without one, the highest version is live.

        Raises:
            ModelError: There is no version, or the file is damaged or not to be trusted.
        """
        path = self.folder / STATE
        check_trust(path)
        try:
            return decode_json(read_regular(path, TEXT_BYTES_MAX), Register)
        except FileNotFoundError:
            pass
        except (OSError, DecodeError) as error:
            raise ModelError(
                f"the state of {self.name} cannot be read: {error}",
                where=str(path),
                remedy="Restore it, or remove it and promote the version that shall be live",
            ) from error
        versions = self.versions()
        if not versions:
            raise ModelError(f"there is no version of {self.name}", where=str(self.folder))
        return Register(live=versions[-1])

    def check_seal(self, version: int, register: Register) -> None:
        """Refuse a version whose manifest was changed after it was promoted.

        Raises:
            ModelError: It was.
        """
        if not self.seal_holds(version, register):
            raise ModelError(
                f"the manifest of {self.name}/{version} was changed after it was accepted",
                where=str(self.folder / str(version) / MANIFEST),
                remedy=f"Restore it, or accept what it says now: "
                f"edgeinspect engines promote {self.name}/{version}",
            )

    def seal_holds(self, version: int, register: Register) -> bool:
        """False if a version's manifest was changed after it was accepted."""
        sealed = register.seals.get(version)
        return sealed is None or sealed == self._seal(version)

    # -- changes --------------------------------------------------------------------

    def pin(self) -> None:
        """Write down which version is live now, before a new one is added.

        Without a state file the highest version is live; a new candidate would be at once.
        """
        if self.versions() and not (self.folder / STATE).exists():
            with self._changing() as register:
                self._write(register)

    def promote(self, version: int, why: str = "", who: str = "") -> Register:
        """Make a version live; the caller has verified it.

        Raises:
            ModelError: There is no such version, or the state file cannot be used.
        """
        with self._changing() as old:
            self._require(version)
            before = old.before if version == old.live else (*old.before, old.live)
            seals = {**old.seals, old.live: old.seals.get(old.live) or self._seal(old.live)}
            new = msgspec.structs.replace(
                old,
                live=version,
                before=before[-_KEPT_BEFORE:],
                shadow=None if old.shadow == version else old.shadow,
                seals={**seals, version: self._seal(version)},
            )
            return self._note(new, "promote", version, why, who)

    def rollback(self, why: str = "", who: str = "") -> Register:
        """Make the version live that was before this one.

        Raises:
            ModelError: None was, or it is not there any more.
        """
        with self._changing() as old:
            there = self.versions()
            before = [version for version in old.before if version in there]
            if not before:
                raise ModelError(
                    f"{self.name} has no earlier live version to go back to",
                    where=str(self.folder),
                    remedy=f"Promote one of: {', '.join(map(str, there))}",
                )
            live = before[-1]
            new = msgspec.structs.replace(
                old,
                live=live,
                before=tuple(before[:-1]),
                shadow=None if old.shadow == live else old.shadow,
            )
            return self._note(new, "rollback", live, why, who)

    def shadow(self, version: int | None, why: str = "", who: str = "") -> Register:
        """Let a version judge in shadow; None ends it.

        Raises:
            ModelError: There is no such version, or it is the live one.
        """
        with self._changing() as old:
            if version is None:
                ended = old.shadow or old.live
                new = msgspec.structs.replace(old, shadow=None)
                return self._note(new, "unshadow", ended, why, who)
            self._require(version)
            if version == old.live:
                raise ModelError(
                    f"{self.name}/{version} is the live version",
                    remedy="Only another one can be its shadow",
                )
            seals = {**old.seals, version: self._seal(version)}
            new = msgspec.structs.replace(old, shadow=version, seals=seals)
            return self._note(new, "shadow", version, why, who)

    def reseal(self, version: int, why: str, who: str = "") -> None:
        """Accept a manifest that we changed ourselves; nothing for one without a seal."""
        with self._changing() as old:
            if version in old.seals:
                seals = {**old.seals, version: self._seal(version)}
                new = msgspec.structs.replace(old, seals=seals)
                self._note(new, "reseal", version, why, who)

    def removable(self, keep: int) -> tuple[int, ...]:
        """Versions that may go: not live, not shadow, not what `rollback` needs, not newer.

        Args:
            keep: So many of those that were live before stay.
        """
        register = self.register()
        needed = {register.live, register.shadow, *register.before[len(register.before) - keep :]}
        return tuple(v for v in self.versions() if v not in needed and v < register.live)

    def remove(self, version: int, who: str = "") -> int:
        """Remove a version from the disk; returns the bytes that were freed.

        Raises:
            ModelError: It is live or in shadow, or the disk refuses.
        """
        with self._changing() as old:
            if old.state(version) is not State.CANDIDATE:
                raise ModelError(f"{self.name}/{version} is {old.state(version).value}")
            folder = self.folder / str(version)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise ModelError(f"cannot be removed: {error}", where=str(folder)) from error
            new = msgspec.structs.replace(
                old,
                before=tuple(each for each in old.before if each != version),
                seals={key: seal for key, seal in old.seals.items() if key != version},
            )
            self._note(new, "remove", version, "", who)
            return size

    # -- inside ---------------------------------------------------------------------

    def _require(self, version: int) -> None:
        if version not in self.versions():
            raise ModelError(f"there is no model {self.name}/{version}", where=str(self.folder))

    def _seal(self, version: int) -> str:
        path = self.folder / str(version) / MANIFEST
        try:
            return sha256_of(path)
        except OSError:
            return ""

    def _note(self, new: Register, did: str, version: int, why: str, who: str) -> Register:
        change = msgspec.convert(
            {
                "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "who": who or os.environ.get(ACTOR) or os.environ.get("SUDO_USER") or _own_name(),
                "did": did,
                "version": version,
                "live": new.live,
                "why": why,
            },
            Change,
        )
        new = msgspec.structs.replace(new, history=(*new.history, change)[-_KEPT_HISTORY:])
        self._write(new)
        return new

    def _write(self, register: Register) -> None:
        path = self.folder / STATE
        fresh = path.with_name(f".{STATE}.{os.getpid()}")
        text = msgspec.json.format(msgspec.json.encode(register), indent=2) + b"\n"
        try:
            with fresh.open("wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise ModelError(f"cannot be written: {error.strerror}", where=str(path)) from error

    @contextmanager
    def _changing(self) -> Iterator[Register]:
        """The register, with everybody else who would change it kept out."""
        try:
            lock = os.open(
                self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise ModelError(
                f"the store cannot be changed: {error.strerror}", where=str(self.folder)
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.register()
        finally:
            os.close(lock)


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
