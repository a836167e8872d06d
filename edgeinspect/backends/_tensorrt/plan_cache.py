"""The plan cache: plans on disk, each with the conditions under which it is valid.

A plan is native code for one GPU and one TensorRT. It is read only from a folder that no other
user can write, its hash is checked on the same bytes that are loaded, and it is used only if every
value in its manifest is still the same.

Source: docs/explanation/decisions/0011-tensorrt.md; CVE-2026-24227
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgeinspect.domain import Int64
from edgeinspect.errors import ModelError, OutputError
from edgeinspect.system import (
    FileLock,
    decode_json,
    write_atomic,
)

PLAN_BYTES_MAX = 4 << 30
_FILE_NAME_FIELDS = (
    "gpu",
    "onnx_sha256",
    "typing",
    "flags",
    "optimization_level",
    "workspace_mib",
    "profiles",
)
"""Fields that determine the file name. The other fields describe the machine: when they change, the
new plan replaces the old one."""


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the validity of a plan depends on. Flags by name, as their numbers change."""

    tensorrt: str
    """Version, with all four numbers."""
    compute_capability: str
    gpu: str
    driver: str
    cuda: str
    os: str
    arch: str
    l4t: str
    onnx_sha256: str
    calibration: str | None
    typing: Literal["strong", "weak"]
    """Whether the graph determines each tensor's type, or builder flags may change it."""
    flags: tuple[str, ...]
    """Names of the builder flags."""
    optimization_level: Int64
    workspace_mib: Int64
    profiles: tuple[str, ...]
    """Inputs with their fixed shapes."""


class PlanManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manifest beside a plan, with the suffix `.json`."""

    schema: Literal[1] = 1
    key: PlanKey
    plan_sha256: str
    plan_bytes: Int64
    timing_sha256: str
    """Of the timing cache after the build, in the `.timing` beside."""
    built_at: str
    """UTC."""
    build_s: float


@dataclass(frozen=True, slots=True)
class TrtPlan:
    """A valid plan, verified against its manifest."""

    path: Path
    data: bytes
    manifest: PlanManifest


@dataclass(frozen=True, slots=True)
class PlanMismatch:
    """Why there is no valid plan."""

    reason: str


def default_plan_folder() -> Path:
    """Return the default folder of plans.

    `EDGEINSPECT_PLANS`, else the unit's cache (systemd's `CacheDirectory=`), else the user's.
    """
    if named := os.environ.get("EDGEINSPECT_PLANS"):
        return Path(named)
    if unit := os.environ.get("CACHE_DIRECTORY"):
        return Path(unit.partition(":")[0]) / "plans"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edgeinspect" / "plans"


class PlanCache:
    """Plans in one folder. Thread-safe, and safe between processes.

    Args:
        path: The folder; created with mode 700 if it does not exist.

    Raises:
        ModelError: Another user can write to it.
        OutputError: It cannot be created.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path = path.resolve(strict=True)
            check_private_folder(self.path)
        except OSError as error:
            raise OutputError(
                f"cannot store plans: {error.strerror}",
                where=str(path),
                remedy="Configure another folder with `plans:`",
            ) from error

    def load(self, key: PlanKey) -> TrtPlan | PlanMismatch:
        """Return the plan for `key`, or why there is no valid one."""
        stem = self.path / _file_name(key)
        try:
            manifest = decode_json(_read_private_file(stem.with_suffix(".json")), PlanManifest)
            if differing := _differences(manifest.key, key):
                return PlanMismatch(differing)
            data = _read_private_file(stem.with_suffix(".plan"))
            timing = _read_private_file(stem.with_suffix(".timing"))
        except FileNotFoundError as error:
            missing = Path(error.filename).suffix
            return PlanMismatch(
                "none was built" if missing == ".json" else f"its {missing} is missing"
            )
        except (OSError, msgspec.MsgspecError) as error:
            return PlanMismatch(f"cannot be read: {error}")
        if len(data) != manifest.plan_bytes or _sha256(data) != manifest.plan_sha256:
            return PlanMismatch("the plan is not the one its manifest names")
        if _sha256(timing) != manifest.timing_sha256:
            return PlanMismatch("the timing cache is not the one its manifest names")
        return TrtPlan(stem.with_suffix(".plan"), data, manifest)

    def save(self, key: PlanKey, data: bytes, timing: bytes, build_s: float) -> TrtPlan:
        """Write a plan atomically: a reader loads the old plan or the new one.

        Raises:
            OutputError: It cannot be written.
        """
        stem = self.path / _file_name(key)
        manifest = PlanManifest(
            key=key,
            plan_sha256=_sha256(data),
            plan_bytes=len(data),
            timing_sha256=_sha256(timing),
            built_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            build_s=round(build_s, 1),
        )
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        try:
            # The manifest last: until then the hashes differ, and no plan is valid.
            for suffix, content in ((".plan", data), (".timing", timing), (".json", text)):
                write_atomic(stem.with_suffix(suffix), content, mode=0o600, durable=True)
        except OSError as error:
            raise OutputError(
                f"the plan cannot be stored: {error.strerror}",
                where=str(stem),
                remedy="Free disk space, or configure another `plans:`",
            ) from error
        return TrtPlan(stem.with_suffix(".plan"), data, manifest)

    def load_timing_cache(self, key: PlanKey) -> bytes:
        """Return the latest timing cache of the same TensorRT and GPU; else empty."""
        newest, latest = "", b""
        for path in self.path.glob("*.json"):
            try:
                manifest = decode_json(_read_private_file(path), PlanManifest)
                timing = _read_private_file(path.with_suffix(".timing"))
            except (OSError, msgspec.MsgspecError):
                continue
            theirs = manifest.key
            same = (theirs.tensorrt, theirs.gpu, theirs.compute_capability, theirs.cuda) == (
                key.tensorrt,
                key.gpu,
                key.compute_capability,
                key.cuda,
            )
            if same and manifest.built_at >= newest and _sha256(timing) == manifest.timing_sha256:
                newest, latest = manifest.built_at, timing
        return latest

    def build_lock(self, key: PlanKey) -> FileLock:
        """Wait until no other process builds the same plan, and lock it."""
        return FileLock(self.path / f"{_file_name(key)}.lock", mode=0o600, timeout_s=None)


def read_plan(path: Path) -> TrtPlan:
    """Read a plan from a file, verified as by `PlanCache.load` except for its key.

    Raises:
        ModelError: It is missing, not private, or does not match its manifest.
    """
    path = path.resolve()
    try:
        check_private_folder(path.parent)
        manifest = decode_json(_read_private_file(path.with_suffix(".json")), PlanManifest)
        data = _read_private_file(path)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"its manifest has faults: {error}", where=str(path)) from error
    if len(data) != manifest.plan_bytes or _sha256(data) != manifest.plan_sha256:
        raise ModelError(
            "does not match its manifest",
            where=str(path),
            remedy="Delete it and build it again: a plan is native code",
        )
    return TrtPlan(path, data, manifest)


def check_private_folder(folder: Path) -> None:
    """Refuse a folder that another user can write or replace.

    Args:
        folder: Resolved path, without links.

    Raises:
        ModelError: Others can write to the folder or to one above it.
    """
    for level in (folder, *folder.parents):
        status = level.lstat()
        is_own = status.st_uid in (0, os.geteuid())
        open_to_others = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        # In a sticky folder such as /tmp, users cannot rename or remove files of others.
        sticky = level != folder and bool(status.st_mode & stat.S_ISVTX)
        if not is_own or (open_to_others and not sticky):
            raise ModelError(
                f"another user can write plans there ({stat.filemode(status.st_mode)} {level})",
                where=str(folder),
                remedy="A plan is native code: use a folder of your own, mode 700",
            )


def _differences(theirs: PlanKey, ours: PlanKey) -> str:
    changed = [
        f"{name} was {getattr(theirs, name) or 'none'}, is {getattr(ours, name) or 'none'}"
        for name in PlanKey.__struct_fields__
        if getattr(theirs, name) != getattr(ours, name)
    ]
    return "; ".join(changed)


def _file_name(key: PlanKey) -> str:
    """Return the file name of a plan, without suffix."""
    fields = [getattr(key, name) for name in _FILE_NAME_FIELDS]
    return _sha256(msgspec.json.encode(fields))[:20]


def _read_private_file(path: Path) -> bytes:
    """Return the bytes of a regular file that only this user can write.

    Raises:
        OSError: It is not such a file, or cannot be read.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        is_private = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
        if not stat.S_ISREG(status.st_mode) or not is_private or status.st_size > PLAN_BYTES_MAX:
            raise PermissionError(1, "is not a regular file writable by this user only", str(path))
        return file.read()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
