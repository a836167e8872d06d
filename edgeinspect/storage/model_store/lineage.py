"""What makes two versions the same model: a name stands for one product and one task.

A version of another kind, of other classes or trained on another data set is another model,
even if it has the name: a line that names the model without a version would inspect with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgeinspect.errors import ModelError
from edgeinspect.storage.model_store.manifest import MANIFEST_FILE, ModelManifest, read_manifest
from edgeinspect.storage.model_store.versions import ModelVersions

REPLACES_LINEAGE = "--replaces-lineage"
"""Option with which a user states that the name changes its meaning."""
_DATA = re.compile(r"(?P<name>.+), \d+ images")


def check_lineage(versions: ModelVersions, added: ModelManifest, *, remedy: str = "") -> None:
    """Refuse a version that contradicts the live version of its name.

    Args:
        versions: Of the name in the store; may be empty.
        added: The manifest of the version.
        remedy: What to do; another name by default.

    Raises:
        ModelError: Kind, classes or data set differ, or the state of the name cannot be read.
    """
    for number in _reference_versions(versions, added.version):
        try:
            existing = read_manifest(versions.folder / str(number) / MANIFEST_FILE)
        except ModelError:  # it is refused wherever it is used
            continue
        differences = list(_contradictions(existing, added))
        if differences:
            raise ModelError(
                f"cannot be a version of {versions.name}: {versions.name}/{number} "
                f"{'; '.join(differences)}",
                where=str(versions.folder),
                remedy=remedy
                or f"Give it another --name, or {REPLACES_LINEAGE} if the name is to change its "
                "meaning",
            )
        return


def _reference_versions(versions: ModelVersions, added: int) -> Iterator[int]:
    """Yield the versions to compare with, the decisive one first.

    That is the live one; where none was chosen, the oldest, which had the name first.
    """
    numbers = versions.versions()
    if not versions.has_state:
        yield from () if numbers[:1] == (added,) else numbers
        return
    live = versions.read_state().live
    for number in sorted(numbers, key=lambda number: (number != live, -number)):
        if number != added:
            yield number


def _contradictions(existing: ModelManifest, added: ModelManifest) -> Iterator[str]:
    if existing.kind is not added.kind:
        yield f"is a {existing.kind.value}, this one a {added.kind.value}"
    if existing.classes != added.classes:
        yield f"has the classes {_listing(existing)}, this one {_listing(added)}"
    before, now = _data_set(existing.training), _data_set(added.training)
    if before and now and before != now:
        yield f"was trained on the data set '{before}', this one on '{now}'"


def _listing(manifest: ModelManifest) -> str:
    shown = ", ".join(manifest.classes[:8]) or "none"
    return f"{shown}, …" if len(manifest.classes) > 8 else shown


def _data_set(training: Any) -> str:
    """Return the name of the data set that a training recorded; empty if it is unknown."""
    text = training.get("data") if isinstance(training, Mapping) else None
    match = _DATA.fullmatch(text) if isinstance(text, str) else None
    return match["name"] if match else ""
