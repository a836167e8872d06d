"""The model store: folders `<name>/<version>/` with a manifest and an ONNX file.

A model is used only if its file is the one the manifest names, byte for byte: the hash is
what a verdict carries, and what an auditor is shown.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgeinspect.config import document
from edgeinspect.config.faults import BAD, Collector, suggest
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.tensor import ModelId, ModelKind, ModelSpec, Precision
from edgeinspect.errors import ConfigError, ModelError

MANIFEST = "manifest.yaml"
MAX_MODEL_BYTES = 512 << 20
"""Largest ONNX file that is read."""

_REF = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]{0,63})(/(?P<version>[1-9][0-9]{0,8}))?")
_INSTALLED = Path("/var/lib/edgeinspect/engines")
_CHUNK_BYTES = 1 << 20


class ManifestInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The frame a model takes."""

    height_px: Annotated[int, Meta(ge=1, le=65_536)]
    width_px: Annotated[int, Meta(ge=1, le=65_536)]
    channels: Literal[1, 3]
    color: Literal["mono", "bgr", "rgb"]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's manifest, as it stands beside its file."""

    schema: Literal[1]
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    version: Annotated[int, Meta(ge=1)]
    kind: ModelKind
    file: Annotated[str, Meta(min_length=1, max_length=255)]
    """Name of the ONNX file in the same folder."""
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_MODEL_BYTES)]
    precision: Precision
    opset: Annotated[int, Meta(ge=13, le=99)]
    input: ManifestInput
    classes: list[Annotated[str, Meta(min_length=1, max_length=64)]] = []
    """Defect classes without background; class id i + 1 is the i-th."""
    output_stride: Annotated[int, Meta(ge=1, le=64)] = 1
    """Input pixels per class-map pixel, each way."""
    thresholds: dict[str, Any] = {}
    """What the training proposes; the line decides."""
    training: Any = None
    """Where the weights come from."""
    accuracy: Any = None
    """Figures on unseen data."""
    created: str = ""
    calibration: str | None = None
    """Calibration id of an INT8 model."""


def default_root() -> Path:
    """Where models are when nobody says otherwise.

    `EDGEINSPECT_STORE`, else the machine's store, else the checkout's `engines/`, else the
    models that were installed with the package.
    """
    if named := os.environ.get("EDGEINSPECT_STORE"):
        return Path(named)
    checkout = Path(__file__).resolve().parent.parent
    shipped = Path(sys.prefix) / "share" / "edgeinspect" / "engines"
    if _INSTALLED.is_dir():
        return _INSTALLED
    # A folder `engines` beside site-packages' parent would be somebody else's.
    if (checkout / "setup.cfg").is_file() and (checkout / "engines").is_dir():
        return checkout / "engines"
    return shipped


class Store:
    """Models by name. Stateless but for its root; thread-safe.

    Args:
        root: Folder of the models; `default_root()` when absent.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    def names(self) -> tuple[str, ...]:
        """The models that the store holds, sorted; none if there is no store."""
        return tuple(sorted({folder.parent.name for folder in self._folders("*")}))

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of one model, oldest first."""
        return tuple(sorted(int(folder.name) for folder in self._folders(name)))

    def resolve(self, ref: str) -> ModelSpec:
        """Find and verify a model.

        Args:
            ref: `strip-gate` (its highest version), `strip-gate/1`, or the path of a folder
                with a manifest, starting with `/`, `./` or `../`.

        Raises:
            ModelError: There is no such model, its manifest has faults, or its file is not
                the one the manifest names.
        """
        if ref.startswith(("/", "./", "../")):
            return read_model(Path(ref))
        match = _REF.fullmatch(ref)
        if match is None:
            raise ModelError(
                f"'{document.shorten(ref)}' does not name a model",
                remedy="Write NAME, NAME/VERSION, or a folder's path with a leading / or ./",
            )
        name = match["name"]
        versions = self.versions(name)
        version = int(match["version"] or (versions[-1] if versions else 0))
        if version not in versions:
            raise ModelError(f"there is no model {ref}", where=str(self.root),
                             remedy=self._advice(name, versions))  # fmt: skip
        spec = read_model(self.root / name / str(version))
        if (spec.id.name, spec.id.version) != (name, version):
            raise ModelError(
                f"its manifest says {spec.id}",
                where=str(self.root / name / str(version)),
                remedy="Move the folder to where its manifest says, or correct the manifest",
            )
        return spec

    def _folders(self, name: str) -> list[Path]:
        pattern = f"{name}/*/{MANIFEST}"
        found = (path.parent for path in self.root.glob(pattern))
        return [path for path in found if re.fullmatch("[1-9][0-9]{0,8}", path.name)]

    def _advice(self, name: str, versions: tuple[int, ...]) -> str:
        if versions:
            return "Its versions are: " + ", ".join(str(version) for version in versions)
        names = self.names()
        if not names:
            return "The store is empty; name another with `store:` or EDGEINSPECT_STORE"
        return f"The store has: {', '.join(names)}{suggest(name, names)}"


def read_model(folder: Path) -> ModelSpec:
    """Read a model's manifest and verify its file.

    Raises:
        ModelError: As `Store.resolve`.
    """
    manifest = read_manifest(folder / MANIFEST)
    path = _verify(folder, manifest)
    shape = FrameShape(manifest.input.height_px, manifest.input.width_px, manifest.input.channels)
    return ModelSpec(
        id=ModelId(manifest.name, manifest.version, manifest.sha256, manifest.calibration),
        kind=manifest.kind,
        path=path,
        shape=shape,
        color=manifest.input.color,
        classes=tuple(manifest.classes),
        output_stride=manifest.output_stride,
        precision=manifest.precision,
        thresholds=MappingProxyType(manifest.thresholds),
    )


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest, without its model file.

    Raises:
        ModelError: It is missing, unreadable, or has faults; all of them are listed.
    """
    where = str(path)
    try:
        root, faults = document.parse(document.read_text(path), where)
        collector = Collector()
        collector.faults.extend(faults)
        manifest = collector.struct(root, Manifest, "")
        if manifest is not BAD:
            _check(collector, manifest)
        if collector.faults:
            raise ConfigError(collector.faults, where=where)
    except ConfigError as error:
        what = "the manifest cannot be used: " + "; ".join(map(str, error.faults))
        raise ModelError(what, where=where) from error
    assert isinstance(manifest, Manifest)
    return manifest


def _check(collector: Collector, manifest: Manifest) -> None:
    if (manifest.input.channels == 1) != (manifest.input.color == "mono"):
        collector.fault("input.color", "must be mono with 1 channel, bgr or rgb with 3")
    if manifest.kind is ModelKind.SEGMENTER and not manifest.classes:
        collector.fault("classes", "required: a segmenter names its classes")
    if len(set(manifest.classes)) != len(manifest.classes):
        collector.fault("classes", "must differ from each other")
    if len(manifest.classes) > 255:
        collector.fault("classes", "must be at most 255: the class map is uint8")
    stride = manifest.output_stride
    if manifest.input.height_px % stride or manifest.input.width_px % stride:
        collector.fault("output_stride", "must divide the input's height and width")


def _verify(folder: Path, manifest: Manifest) -> Path:
    """The model file's path, its size and hash checked."""
    inside = folder.resolve()
    path = (folder / manifest.file).resolve()
    if path.parent != inside or Path(manifest.file).name != manifest.file:
        raise ModelError(
            f"its manifest names '{document.shorten(manifest.file)}', which is outside",
            where=str(folder),
            remedy="A model file stands in the folder of its manifest, and is no link",
        )
    digest = hashlib.sha256()
    size = 0
    try:
        if not path.is_file():
            raise ModelError("the model file is missing", where=str(path),
                             remedy="Copy the model again")  # fmt: skip
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_MODEL_BYTES:
                    break
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"is larger than {MAX_MODEL_BYTES >> 20} MiB", where=str(path))
    if size != manifest.size_bytes:
        raise ModelError(
            f"has {size} bytes; its manifest says {manifest.size_bytes}",
            where=str(path),
            remedy="The file is not the one that was accepted: copy the model again",
        )
    if digest.hexdigest() != manifest.sha256:
        raise ModelError(
            f"has the SHA-256 {digest.hexdigest()[:12]}…; its manifest says "
            f"{manifest.sha256[:12]}…",
            where=str(path),
            remedy="The file is not the one that was accepted: copy the model again",
        )
    return path
