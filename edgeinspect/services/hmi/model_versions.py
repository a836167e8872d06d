"""The engines' versions as the page shows them, and their promotion."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeinspect.errors import DataError, ModelError
from edgeinspect.storage.model_store import (
    ACTOR_VARIABLE,
    MANIFEST_FILE,
    ModelStore,
    ModelVersions,
    VersionState,
    read_manifest,
)
from edgeinspect.storage.shadow_results import ShadowComparison, model_key, read_comparisons

_TIMEOUT_S = 300
_MAX_OUTPUT_CHARS = 600


def describe_versions(
    store: ModelStore, names: Sequence[str], shadow_file: Path
) -> list[dict[str, Any]]:
    """Every version of the line's models, the newest first, with its figures in shadow.

    Args:
        store: Where they are.
        names: The models of the line.
        record: The shadow's record.
    """
    told: list[dict[str, Any]] = []
    for name in names:
        shelf = store.model_versions(name)
        try:
            register = shelf.read_state()
        except ModelError as error:
            told.append({"name": name, "problem": str(error), "versions": []})
            continue
        versions = [
            _describe_version(shelf, register, each, shadow_file) for each in shelf.versions()
        ]
        history = [msgspec.to_builtins(change) for change in register.history[-10:]]
        told.append(
            {"name": name, "problem": "", "versions": versions[::-1], "history": history[::-1]}
        )
    return told


def _describe_version(
    shelf: ModelVersions, register: VersionState, version: int, shadow_file: Path
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ref": f"{shelf.name}/{version}",
        "state": register.stage_of(version).value,
        "was_live": version in register.before,
        "problem": "",
        "shadow": [],
    }
    try:
        manifest = read_manifest(shelf.folder / str(version) / MANIFEST_FILE)
        key = model_key(manifest.name, manifest.version, manifest.sha256)
        told |= {
            "kind": manifest.kind.value,
            "precision": manifest.precision.value,
            "calibration": manifest.calibration,
            "created": manifest.created,
            "sha256": manifest.sha256,
            "latency": [msgspec.to_builtins(each) for each in manifest.latency],
            "shadow": [_shadow_figures(one) for one in read_comparisons([shadow_file], key)],
        }
    except (ModelError, DataError) as error:
        told["problem"] = str(error)
    return told


def _shadow_figures(one: ShadowComparison) -> dict[str, Any]:
    return {
        "live": one.live,
        "frames": one.frames,
        "only_live_rejects": one.only_live_rejects,
        "only_shadow_rejects": one.only_shadow_rejects,
        "both_reject": one.both_reject,
        "p99_us": one.p99_us,
        "seqs": one.seqs[:10],
    }


def promote(store: ModelStore, ref: str, actor: str, reason: str, backend: str) -> str:
    """Verify a version and make it live, in a process of its own; returns what it said.

    The verification loads the engine, which has no place beside the page.

    Raises:
        ModelError: It was refused, or took too long.
    """
    command = [
        sys.executable,
        "-m",
        "edgeinspect",
        "models",
        "promote",
        ref,
        "--store",
        str(store.root),
        "--why",
        reason,
        "--backend",
        backend,
    ]
    return _run(command, {**os.environ, ACTOR_VARIABLE: actor}, f"{ref} was not promoted")


def run_reload_command(command: Sequence[str]) -> str:
    """Have the line take what is live now; returns what the command said.

    Raises:
        ModelError: The command failed.
    """
    return _run(list(command), dict(os.environ), "the line was not reloaded")


def _run(command: list[str], environment: dict[str, str], failure: str) -> str:
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"{failure}: {error}") from error
    if done.returncode:
        raise ModelError(f"{failure}: {(done.stderr or done.stdout).strip()[-_MAX_OUTPUT_CHARS:]}")
    return done.stdout.strip()[-_MAX_OUTPUT_CHARS:]
