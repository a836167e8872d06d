"""The versions of one model, and the file `state.json` that records which of them is live.

It is replaced atomically under a lock, so that a reader sees the old state or the new one and a
power cut leaves one of the two.
"""

from __future__ import annotations

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

from edgeinspect.domain import Int64
from edgeinspect.errors import ModelError, OutputError
from edgeinspect.storage.model_store.manifest import MANIFEST_FILE
from edgeinspect.storage.model_store.permissions import check_permissions
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    DecodeError,
    FileLock,
    decode_json,
    read_regular,
    sha256_of,
    write_atomic,
)

STATE_FILE = "state.json"
ACTOR_VARIABLE = "EDGEINSPECT_ACTOR"
"""Environment variable: the person on whose behalf a program changes the store."""
_LOCK_FILE = ".state.lock"
_VERSION = re.compile("[1-9][0-9]{0,8}")
_MAX_PREVIOUS = 64
_MAX_HISTORY = 1000


class ModelStage(str, Enum):
    """The stage of a version."""

    CANDIDATE = "candidate"
    """Not in use."""
    SHADOW = "shadow"
    """Inspects in idle time what the live version inspected, without effect."""
    LIVE = "live"
    """Inspects. One version of each model."""


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a model's history."""

    at: str
    """UTC, ISO 8601."""
    who: str
    did: Literal["promote", "rollback", "shadow", "unshadow", "reseal", "remove"]
    version: Int64
    live: Int64
    """The live version after the change."""
    why: str = ""


class VersionState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `state.json`."""

    schema: Literal[1] = 1
    live: Int64
    shadow: Int64 | None = None
    before: tuple[Int64, ...] = ()
    """Previous live versions, the latest last: `rollback` returns to it."""
    seals: dict[Int64, str] = {}
    """SHA-256 of the manifest of each version that was approved, for live or shadow."""
    history: tuple[StateChange, ...] = ()

    def stage_of(self, version: int) -> ModelStage:
        """Return the stage of a version."""
        if version == self.live:
            return ModelStage.LIVE
        return ModelStage.SHADOW if version == self.shadow else ModelStage.CANDIDATE


class ModelVersions:
    """The versions of one model. All state is in its folder; changes are locked.

    Args:
        folder: `<store>/<name>`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name

    def versions(self) -> tuple[int, ...]:
        """Return the versions that have a manifest, oldest first."""
        names = (path.parent.name for path in self.folder.glob(f"*/{MANIFEST_FILE}"))
        return tuple(sorted(int(name) for name in names if _VERSION.fullmatch(name)))

    @property
    def has_state(self) -> bool:
        """Whether a live version was chosen; without, the highest is live."""
        return (self.folder / STATE_FILE).exists()

    def read_state(self) -> VersionState:
        """Read the state file; without one the highest version is live.

        Raises:
            ModelError: There is no version, or the file is damaged or writable by others.
        """
        path = self.folder / STATE_FILE
        check_permissions(path)
        try:
            return decode_json(read_regular(path, TEXT_BYTES_MAX), VersionState)
        except FileNotFoundError:
            pass
        except (OSError, DecodeError) as error:
            raise ModelError(
                f"the state of {self.name} cannot be read: {error}",
                where=str(path),
                remedy="Restore it, or remove it and promote the version to be live",
            ) from error
        versions = self.versions()
        if not versions:
            raise ModelError(f"there is no version of {self.name}", where=str(self.folder))
        return VersionState(live=versions[-1])

    def check_approved(self, version: int, state: VersionState) -> None:
        """Refuse a version whose manifest was changed after its approval.

        Raises:
            ModelError: It was.
        """
        if not self.is_approved(version, state):
            raise ModelError(
                f"the manifest of {self.name}/{version} was changed after it was approved",
                where=str(self.folder / str(version) / MANIFEST_FILE),
                remedy=f"Restore it, or approve it as it is: "
                f"edgeinspect models promote {self.name}/{version}",
            )

    def is_approved(self, version: int, state: VersionState) -> bool:
        """Return False if a version's manifest was changed after its approval."""
        approved = state.seals.get(version)
        return approved is None or approved == self._manifest_digest(version)

    # -- changes --------------------------------------------------------------------

    def pin_live(self) -> None:
        """Store which version is live now, before a new one is added.

        Without a state file the highest version is live, so a new candidate would go live.
        """
        if self.versions() and not self.has_state:
            with self._locked_state() as state:
                self._write_state(state)

    def promote(self, version: int, reason: str = "", actor: str = "") -> VersionState:
        """Make a version live; the caller has verified it.

        Raises:
            ModelError: There is no such version, or the state file cannot be used.
        """
        with self._locked_state() as old:
            self._check_exists(version)
            before = old.before if version == old.live else (*old.before, old.live)
            seals = {
                **old.seals,
                old.live: old.seals.get(old.live) or self._manifest_digest(old.live),
            }
            new = msgspec.structs.replace(
                old,
                live=version,
                before=before[-_MAX_PREVIOUS:],
                shadow=None if old.shadow == version else old.shadow,
                seals={**seals, version: self._manifest_digest(version)},
            )
            return self._record_change(new, "promote", version, reason, actor)

    def rollback(self, reason: str = "", actor: str = "") -> VersionState:
        """Make the previous live version live again.

        Raises:
            ModelError: There is none that still exists.
        """
        with self._locked_state() as old:
            existing = self.versions()
            before = [version for version in old.before if version in existing]
            if not before:
                raise ModelError(
                    f"{self.name} has no previous live version",
                    where=str(self.folder),
                    remedy=f"Promote one of: {', '.join(map(str, existing))}",
                )
            live = before[-1]
            new = msgspec.structs.replace(
                old,
                live=live,
                before=tuple(before[:-1]),
                shadow=None if old.shadow == live else old.shadow,
            )
            return self._record_change(new, "rollback", live, reason, actor)

    def set_shadow(self, version: int | None, reason: str = "", actor: str = "") -> VersionState:
        """Run a version in shadow; None ends it.

        Raises:
            ModelError: There is no such version, or it is the live one.
        """
        with self._locked_state() as old:
            if version is None:
                ended = old.shadow or old.live
                new = msgspec.structs.replace(old, shadow=None)
                return self._record_change(new, "unshadow", ended, reason, actor)
            self._check_exists(version)
            if version == old.live:
                raise ModelError(
                    f"{self.name}/{version} is the live version",
                    remedy="Only another one can be its shadow",
                )
            seals = {**old.seals, version: self._manifest_digest(version)}
            new = msgspec.structs.replace(old, shadow=version, seals=seals)
            return self._record_change(new, "shadow", version, reason, actor)

    def reapprove(self, version: int, reason: str, actor: str = "") -> None:
        """Approve a manifest that this program changed; ignored if it was not approved before."""
        with self._locked_state() as old:
            if version in old.seals:
                seals = {**old.seals, version: self._manifest_digest(version)}
                new = msgspec.structs.replace(old, seals=seals)
                self._record_change(new, "reseal", version, reason, actor)

    def removable(self, keep: int) -> tuple[int, ...]:
        """Return removable versions: not live, shadow, needed for `rollback`, or newer.

        Args:
            keep: Number of previous live versions to keep.
        """
        state = self.read_state()
        needed = {state.live, state.shadow, *state.before[len(state.before) - keep :]}
        return tuple(v for v in self.versions() if v not in needed and v < state.live)

    def remove(self, version: int, actor: str = "") -> int:
        """Remove a version from the disk; return the number of bytes freed.

        Raises:
            ModelError: It is live or in shadow.
            OutputError: The disk refuses.
        """
        with self._locked_state() as old:
            if old.stage_of(version) is not ModelStage.CANDIDATE:
                raise ModelError(f"{self.name}/{version} is {old.stage_of(version).value}")
            folder = self.folder / str(version)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise OutputError(f"cannot be removed: {error}", where=str(folder)) from error
            new = msgspec.structs.replace(
                old,
                before=tuple(each for each in old.before if each != version),
                seals={key: seal for key, seal in old.seals.items() if key != version},
            )
            self._record_change(new, "remove", version, "", actor)
            return size

    # -- inside ---------------------------------------------------------------------

    def _check_exists(self, version: int) -> None:
        if version not in self.versions():
            raise ModelError(f"there is no model {self.name}/{version}", where=str(self.folder))

    def _manifest_digest(self, version: int) -> str:
        path = self.folder / str(version) / MANIFEST_FILE
        try:
            return sha256_of(path)
        except OSError:
            return ""

    def _record_change(
        self, new: VersionState, action: str, version: int, reason: str, actor: str
    ) -> VersionState:
        change = msgspec.convert(
            {
                "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "who": actor
                or os.environ.get(ACTOR_VARIABLE)
                or os.environ.get("SUDO_USER")
                or _user_name(),
                "did": action,
                "version": version,
                "live": new.live,
                "why": reason,
            },
            StateChange,
        )
        new = msgspec.structs.replace(new, history=(*new.history, change)[-_MAX_HISTORY:])
        self._write_state(new)
        return new

    def _write_state(self, state: VersionState) -> None:
        path = self.folder / STATE_FILE
        text = msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"
        try:
            write_atomic(path, text, mode=0o644, durable=True)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error

    @contextmanager
    def _locked_state(self) -> Iterator[VersionState]:
        """Yield the state with the lock held that every change needs."""
        try:
            lock = FileLock(self.folder / _LOCK_FILE, mode=0o600, timeout_s=None)
        except OSError as error:
            raise OutputError(
                f"the store cannot be changed: {error.strerror}", where=str(self.folder)
            ) from error
        with lock:
            yield self.read_state()


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
