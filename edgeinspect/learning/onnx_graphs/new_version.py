"""Adding a version to the model store: one of a training, or one derived from another version."""

from __future__ import annotations

import datetime
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
import yaml

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import ModelError, OutputError, UsageError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelStore,
    ModelVersions,
    check_lineage,
    read_manifest,
)
from edgeinspect.system import MODEL_BYTES_MAX, read_regular

MODEL_FILE = "model.onnx"
MODEL_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")


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
    *,
    files: Mapping[str, bytes] = MappingProxyType({}),
    replaces_lineage: bool = False,
) -> Path:
    """Add a version after the highest one, as a candidate; the live version stays live.

    The version appears complete or not at all.

    Args:
        versions: The model's versions.
        graph: The serialised graph.
        make_manifest: Returns the manifest's text for the version number.
        files: Other files of the version by name, as golden frames.
        replaces_lineage: It may be another model than those of its name.

    Raises:
        OutputError: The store cannot be written.
        ModelError: The state of the versions cannot be read, or it is another model.
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
        if not replaces_lineage:
            check_lineage(versions, read_manifest(temporary / MANIFEST_FILE))
        temporary.rename(target)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def add_copy(
    spec: ModelSpec,
    store: ModelStore,
    name: str,
    *,
    files: Mapping[str, bytes] = MappingProxyType({}),
    replaces_lineage: bool = False,
) -> Path:
    """Add a copy of a model to a store, as the next version of a name.

    Args:
        spec: The model, verified; a graph with a manifest.
        store: Receives it.
        name: Its name there.
        files: Other files of the version by name, as the split of its training.
        replaces_lineage: It may be another model than those of its name.

    Raises:
        UsageError: The name is invalid.
        ModelError: It has no manifest, is a plan, or is another model than those of its name.
        OutputError: The store cannot be written.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UsageError(
            f"'{name:.80}' is not a valid model name",
            where="--name",
            remedy="Use lower-case letters, digits, - and _",
        )
    source = spec.path.parent / MANIFEST_FILE
    if spec.path.suffix != ".onnx" or not source.is_file():
        raise ModelError(
            "is no graph with a manifest",
            where=str(spec.path),
            remedy="Give the folder of a training; import a network with `edgeinspect models "
            "import`, build a plan with `edgeinspect models build`",
        )
    content = msgspec.to_builtins(read_manifest(source))
    files = dict(files)
    if spec.golden is not None:
        files[spec.golden.name] = read_regular(spec.golden, MODEL_BYTES_MAX)

    def manifest(number: int) -> str:
        own = {**content, "name": name, "version": number, "file": MODEL_FILE}
        return yaml.safe_dump(
            own, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
        )

    return add_candidate(
        store.model_versions(name),
        read_regular(spec.path, MODEL_BYTES_MAX),
        manifest,
        files=files,
        replaces_lineage=replaces_lineage,
    )
