"""Adding a version to the model store that was derived from another version."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from edgeinspect.errors import OutputError
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelVersions

MODEL_FILE = "model.onnx"


def build_date() -> str:
    """Return the date for manifests; SOURCE_DATE_EPOCH overrides it for reproducible builds."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and len(epoch) <= 11:  # year 5138 at most, within the range of datetime
        moment = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    else:
        moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.date().isoformat()


def add_candidate(
    versions: ModelVersions,
    graph: bytes,
    make_manifest: Callable[[int], str],
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Add a version after the highest one, as a candidate; the live version stays live.

    The version appears complete or not at all.

    Args:
        versions: The model's versions.
        graph: The serialised graph.
        make_manifest: Returns the manifest's text for the version number.
        files: Other files of the version, by name.

    Raises:
        OutputError: The store cannot be written.
        ModelError: The state of the versions cannot be read.
    """
    number = max(versions.versions(), default=0) + 1
    target = versions.folder / str(number)
    temporary = versions.folder / f".making-{number}-{os.getpid()}"
    manifest = make_manifest(number)
    try:
        versions.folder.mkdir(parents=True, exist_ok=True)
        versions.pin_live()
        temporary.mkdir(mode=0o755)
        contents = {**files, MODEL_FILE: graph, MANIFEST_FILE: manifest.encode()}
        for name, data in contents.items():
            with (temporary / name).open("wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        temporary.rename(target)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
