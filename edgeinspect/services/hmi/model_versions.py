"""Lists the versions of the line's models, and promotes them."""

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
    """Return every version of the models, the newest first, with its figures in shadow.

    Args:
        store: The model store.
        names: The models of the line.
        shadow_file: The results of shadow inspection.
    """
    models: list[dict[str, Any]] = []
    for name in names:
        model = store.model_versions(name)
        try:
            state = model.read_state()
        except ModelError as error:
            models.append({"name": name, "problem": str(error), "versions": []})
            continue
        versions = [_describe_version(model, state, each, shadow_file) for each in model.versions()]
        history = [msgspec.to_builtins(change) for change in state.history[-10:]]
        models.append(
            {"name": name, "problem": "", "versions": versions[::-1], "history": history[::-1]}
        )
    return models


def _describe_version(
    model: ModelVersions, state: VersionState, version: int, shadow_file: Path
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ref": f"{model.name}/{version}",
        "state": state.stage_of(version).value,
        "was_live": version in state.before,
        "problem": "",
        "shadow": [],
    }
    try:
        manifest = read_manifest(model.folder / str(version) / MANIFEST_FILE)
        key = model_key(manifest.name, manifest.version, manifest.sha256)
        described |= {
            "kind": manifest.kind.value,
            "precision": manifest.precision.value,
            "calibration": manifest.calibration,
            "created": manifest.created,
            "sha256": manifest.sha256,
            "latency": [msgspec.to_builtins(each) for each in manifest.latency],
            "shadow": [_shadow_figures(each) for each in read_comparisons([shadow_file], key)],
        }
    except (ModelError, DataError) as error:
        described["problem"] = str(error)
    return described


def _shadow_figures(comparison: ShadowComparison) -> dict[str, Any]:
    names = ("live", "frames", "only_live_rejects", "only_shadow_rejects", "both_reject", "p99_us")
    figures = {name: getattr(comparison, name) for name in names}
    return {**figures, "seqs": comparison.seqs[:10]}


def promote(store: ModelStore, ref: str, actor: str, reason: str, backend: str) -> str:
    """Verify a version and make it live; return the output of the command.

    Runs in a process of its own, since the verification loads the engine.

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
    """Reload the line; return the output of the command.

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
