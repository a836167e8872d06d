"""The model store: folders `<name>/<version>/` with a manifest and a model file.

A model is used only if its file is the one the manifest names, byte for byte, and nobody
but root or the daemon's user can have put it there: an engine is native code, and its hash
is what a verdict carries and an auditor is shown. Which version of a model is live stands
beside the versions, in `state.json`.
Source: docs/models.md, docs/decisions/0010-engine-store.md
"""

from edgeinspect.storage.model_store.manifest import (
    MANIFEST_FILE,
    ModelManifest,
    read_manifest,
    read_model,
)
from edgeinspect.storage.model_store.store import ModelStore, default_root
from edgeinspect.storage.model_store.versions import ModelVersions, Stage, StateChange, VersionState

__all__ = [
    "MANIFEST_FILE",
    "ModelManifest",
    "ModelStore",
    "ModelVersions",
    "Stage",
    "StateChange",
    "VersionState",
    "default_root",
    "read_manifest",
    "read_model",
]
