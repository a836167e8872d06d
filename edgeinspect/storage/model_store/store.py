"""The model store: models by name, each verified before it is returned."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from edgeinspect.config import suggest_spelling, yaml_document
from edgeinspect.domain import ModelSpec
from edgeinspect.errors import ModelError
from edgeinspect.storage.model_store.lineage import check_lineage
from edgeinspect.storage.model_store.manifest import MANIFEST_FILE, read_manifest, read_model
from edgeinspect.storage.model_store.permissions import check_permissions
from edgeinspect.storage.model_store.versions import ModelStage, ModelVersions
from edgeinspect.system import list_matching

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,63})(/(?P<version>[1-9][0-9]{0,8}))?")
_INSTALLED_ROOT = Path("/var/lib/edgeinspect/engines")


def default_root() -> Path:
    """Return the root of the store that is used if none is configured.

    `EDGEINSPECT_STORE`, else the machine's store, else the checkout's `engines/`, else the
    models that were installed with the package.
    """
    if named := os.environ.get("EDGEINSPECT_STORE"):
        return Path(named)
    checkout = Path(__file__).resolve().parents[3]
    shipped = Path(sys.prefix) / "share" / "edgeinspect" / "engines"
    if _INSTALLED_ROOT.is_dir():
        return _INSTALLED_ROOT
    # Without setup.cfg, a folder `engines` there belongs to something else.
    if (checkout / "setup.cfg").is_file() and (checkout / "engines").is_dir():
        return checkout / "engines"
    return shipped


class ModelStore:
    """Models by name. All state is below its root; thread-safe.

    Args:
        root: Folder of the models; `default_root()` when absent.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def names(self) -> tuple[str, ...]:
        """Return the models in the store, sorted; none if there is no store."""
        folders = list_matching(self.root, "*")
        return tuple(folder.name for folder in folders if ModelVersions(folder).versions())

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of one model, oldest first."""
        return self.model_versions(name).versions()

    def model_versions(self, name: str) -> ModelVersions:
        """Return one model's versions with their state; it need not exist."""
        return ModelVersions(self.root / name)

    def stage_of(self, name: str, version: int) -> ModelStage:
        """What one version may do; raises as `ModelVersions.read_state`."""
        return self.model_versions(name).read_state().stage_of(version)

    @staticmethod
    def is_reference(text: str) -> bool:
        """Return whether a text has the form NAME or NAME/VERSION."""
        return _REFERENCE.fullmatch(text) is not None

    def has_name(self, ref: str) -> bool:
        """Return whether `NAME` or `NAME/VERSION` names one of its models, of any version."""
        match = _REFERENCE.fullmatch(ref)
        return match is not None and bool(self.versions(match["name"]))

    def parse_reference(self, ref: str) -> tuple[str, int]:
        """Return name and version of `NAME` (its live version) or `NAME/VERSION`.

        Raises:
            ModelError: It names no model of this store.
        """
        match = _REFERENCE.fullmatch(ref)
        if match is None:
            raise ModelError(
                f"'{yaml_document.shorten(ref)}' is not the name of a model",
                remedy="Write NAME, NAME/VERSION, or a folder's path with a leading / or ./",
            )
        name = match["name"]
        versions = self.versions(name)
        if match["version"]:
            version = int(match["version"])
        else:
            version = self.model_versions(name).read_state().live if versions else 0
        if version not in versions:
            what = ref if match["version"] or not versions else f"{name}/{version}, which is live"
            raise ModelError(
                f"there is no model {what}",
                where=str(self.root),
                remedy=self._remedy(name, versions),
            )
        return name, version

    def resolve(self, ref: str) -> ModelSpec:
        """Return a verified model.

        Args:
            ref: `strip-gate` (its live version), `strip-gate/1`, or the path of a folder
                with a manifest, starting with `/`, `./` or `../`.

        Raises:
            ModelError: There is no such model, its manifest has faults or was changed after
                its approval, its file is not the one that the manifest names, another user can
                write it, it was built for another device, or it is another model than the
                version before it and nobody promoted it.
        """
        if ref.startswith(("/", "./", "../")):
            return read_model(Path(ref))
        name, version = self.parse_reference(ref)
        check_permissions(self.root, parent=True)
        model = self.model_versions(name)
        check_permissions(model.folder)
        state = model.read_state()
        spec = read_model(model.folder / str(version))
        model.check_approved(version, state)
        if (spec.id.name, spec.id.version) != (name, version):
            raise ModelError(
                f"its manifest is of {spec.id}",
                where=str(model.folder / str(version)),
                remedy="Rename the folder as its manifest requires, or correct the manifest",
            )
        if "/" not in ref and not model.has_state:  # nobody chose it: it is the highest
            check_lineage(
                model,
                read_manifest(model.folder / str(version) / MANIFEST_FILE),
                remedy="It was copied over another model: move it to a folder of its own name, or "
                f"choose the version that is meant: edgeinspect models promote {name}/VERSION",
            )
        return spec

    def _remedy(self, name: str, versions: tuple[int, ...]) -> str:
        if versions:
            return "Its versions are: " + ", ".join(str(version) for version in versions)
        names = self.names()
        if not names:
            return "The store is empty; set another with `store:` or EDGEINSPECT_STORE"
        return f"The store has: {', '.join(names)}{suggest_spelling(name, names)}"
