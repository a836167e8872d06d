"""The model store: folders `<name>/<version>/` with a manifest and a model file.

A model is used only if its file is the one that the manifest names, byte for byte, and only
root or the daemon's user can have written it: an engine is native code, and its hash is part of
every verdict. `state.json` beside the versions records which of them is live.
Source: docs/reference/models.md, docs/explanation/decisions/0010-model-store.md
"""

from edgeinspect.storage.model_store.golden_frames import (
    create_golden_frames,
    update_manifest,
    verify_engine,
)
from edgeinspect.storage.model_store.lineage import REPLACES_LINEAGE, check_lineage
from edgeinspect.storage.model_store.manifest import (
    MANIFEST_FILE,
    ModelManifest,
    read_manifest,
    read_model,
)
from edgeinspect.storage.model_store.shipped_line import GATE, SEGMENTER, shipped_line_config
from edgeinspect.storage.model_store.store import ModelStore, default_root
from edgeinspect.storage.model_store.versions import (
    ACTOR_VARIABLE,
    ModelStage,
    ModelVersions,
    StateChange,
    VersionState,
)

__all__ = [
    # golden frames
    "create_golden_frames",
    "update_manifest",
    "verify_engine",
    # lineage
    "REPLACES_LINEAGE",
    "check_lineage",
    # manifest
    "MANIFEST_FILE",
    "ModelManifest",
    "read_manifest",
    "read_model",
    # shipped line
    "GATE",
    "SEGMENTER",
    "shipped_line_config",
    # store
    "ModelStore",
    "default_root",
    # versions
    "ACTOR_VARIABLE",
    "ModelVersions",
    "ModelStage",
    "StateChange",
    "VersionState",
]
