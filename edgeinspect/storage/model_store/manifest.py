"""A model's manifest: its fields, and the verification of the files that it names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgeinspect.config import INVALID, ConfigValidator, open_document, yaml_document
from edgeinspect.domain import (
    BASE_CONTRACT,
    EXTENDED_CONTRACT,
    GOOD_PARTS_CONTRACT,
    MODEL_CONTRACTS,
    Decides,
    FrameShape,
    LearnedFrom,
    ModelId,
    ModelKind,
    ModelSpec,
    Precision,
)
from edgeinspect.errors import ConfigError, ModelError
from edgeinspect.storage.model_store.permissions import check_permissions
from edgeinspect.system import gpu_names, open_regular

MANIFEST_FILE = "manifest.yaml"
MAX_MODEL_BYTES = 512 << 20
"""Largest model file that is read."""

_CHUNK_BYTES = 1 << 20
_FileName = Annotated[str, Meta(min_length=1, max_length=255)]
_Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class ManifestInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The frame that a model takes."""

    height_px: Annotated[int, Meta(ge=1, le=65_536)]
    width_px: Annotated[int, Meta(ge=1, le=65_536)]
    channels: Literal[1, 3]
    color: Literal["mono", "bgr", "rgb"]


class ManifestBuilt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model file was built, and where."""

    by: str = ""
    """Program and version."""
    library: str = ""
    """As `TensorRT 10.3.0`."""
    host: str = ""
    at: str = ""
    """When, in UTC."""
    device: str = ""
    """The kind of device that the file runs on, by its driver's name; empty for a graph, which
    runs anywhere. A plan is refused on any other."""


class ManifestLatency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement of an engine's inference time."""

    backend: str
    device: str
    """Processor or GPU."""
    p50_us: Annotated[int, Meta(ge=0)]
    p99_us: Annotated[int, Meta(ge=0)]
    at: str = ""


class ManifestGolden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of golden frames; see `golden_frames`."""

    file: _FileName
    sha256: _Sha256
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_MODEL_BYTES)]


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manifest beside a model file."""

    schema: Literal[1]
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    version: Annotated[int, Meta(ge=1)]
    kind: ModelKind
    contract: str = BASE_CONTRACT
    """Version of the model contract (docs/reference/models.md) that the graph keeps."""
    file: _FileName
    """Name of the model file in the same folder."""
    sha256: _Sha256
    size_bytes: Annotated[int, Meta(ge=1, le=MAX_MODEL_BYTES)]
    precision: Precision
    opset: Annotated[int, Meta(ge=13, le=99)]
    input: ManifestInput
    classes: list[Annotated[str, Meta(min_length=1, max_length=64)]] = []
    """Defect classes without background; class id i + 1 is the i-th. Of a gate of contract 2 the
    kinds, in the order of `class_prob`."""
    output_stride: Annotated[int, Meta(ge=1, le=64)] = 1
    """Input pixels per class-map pixel, each way."""
    thresholds: dict[str, Any] = {}
    """Thresholds that the training proposes; the line's configuration decides."""
    decides: Decides = Decides.DEFECTS
    """`kinds`: it cannot tell good parts from defective ones."""
    learned_from: LearnedFrom = LearnedFrom.LABELS
    """`good`: a good-parts model, trained without any defective part."""
    pretrained: Annotated[str, Meta(max_length=200)] = ""
    """Name of the weights that the training started from."""
    pretrained_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    training: Any = None
    """Origin of the weights."""
    accuracy: Any = None
    """Scores on unseen data."""
    created: str = ""
    calibration: str | None = None
    """Calibration id of an INT8 model."""
    built: ManifestBuilt | None = None
    """How the file was built, and where."""
    latency: list[ManifestLatency] = []
    """Measured inference times."""
    golden: ManifestGolden | None = None
    """Frames with known outputs, which an engine must reproduce before it inspects."""


def read_model(folder: Path) -> ModelSpec:
    """Read a model's manifest and verify its files.

    Raises:
        ModelError: As `ModelStore.resolve`.
    """
    check_permissions(folder.parent, parent=True)
    for path in (folder, folder / MANIFEST_FILE):
        check_permissions(path)
    manifest = read_manifest(folder / MANIFEST_FILE)
    _check_device(folder, manifest)
    path = _verify_file(folder, manifest.file, manifest.size_bytes, manifest.sha256)
    golden = manifest.golden
    if golden is not None:
        _verify_file(folder, golden.file, golden.size_bytes, golden.sha256)
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
        golden=path.parent / golden.file if golden is not None else None,
        contract=manifest.contract,
        decides=manifest.decides,
        learned_from=manifest.learned_from,
        pretrained=manifest.pretrained,
        pretrained_sha256=manifest.pretrained_sha256,
    )


def read_manifest(path: Path) -> ModelManifest:
    """Read and check a manifest, without its model file.

    Raises:
        ModelError: It is missing, unreadable, or has faults; all of them are listed.
    """
    where = str(path)
    try:
        root, collector = open_document(yaml_document.read_text(path), where)
        manifest = collector.validate_struct(root, ModelManifest, "")
        if manifest is not INVALID:
            _check_consistency(collector, manifest)
        collector.raise_faults(where)
    except ConfigError as error:
        what = "the manifest cannot be used: " + "; ".join(map(str, error.faults))
        raise ModelError(what, where=where) from error
    assert isinstance(manifest, ModelManifest)
    return manifest


def _check_consistency(collector: ConfigValidator, manifest: ModelManifest) -> None:
    if (manifest.input.channels == 1) != (manifest.input.color == "mono"):
        collector.add_fault("input.color", "must be mono with 1 channel, bgr or rgb with 3")
    if manifest.kind is ModelKind.SEGMENTER and not manifest.classes:
        collector.add_fault("classes", "required: a segmenter names its classes")
    if len(set(manifest.classes)) != len(manifest.classes):
        collector.add_fault("classes", "must differ from each other")
    if len(manifest.classes) > 255:
        collector.add_fault("classes", "must be at most 255: the class map is uint8")
    if manifest.contract not in MODEL_CONTRACTS:
        known = " or ".join(MODEL_CONTRACTS)
        collector.add_fault("contract", f"must be {known}: this program supports no other")
    else:
        _check_extended(collector, manifest)
    stride = manifest.output_stride
    if manifest.input.height_px % stride or manifest.input.width_px % stride:
        collector.add_fault("output_stride", "must divide the input's height and width")


def _check_extended(collector: ConfigValidator, manifest: ModelManifest) -> None:
    """Check the keys that only a model of contract 2 or 3 has."""
    is_gate = manifest.kind is ModelKind.GATE
    is_extended = manifest.contract == EXTENDED_CONTRACT
    if is_gate and is_extended and not manifest.classes:
        collector.add_fault("classes", "required: a gate of contract 2 names its kinds")
    if manifest.decides is Decides.KINDS and not (is_gate and is_extended):
        collector.add_fault("decides", "`kinds` goes with a gate of contract 2")
    is_good_parts = manifest.learned_from is LearnedFrom.GOOD
    has_heat_map = manifest.contract == GOOD_PARTS_CONTRACT
    if is_good_parts and (is_gate or not (is_extended or has_heat_map)):
        collector.add_fault("learned_from", "`good` goes with a segmenter of contract 2 or 3")
    if has_heat_map and not is_good_parts:
        collector.add_fault("contract", "3 goes with a good-parts model: learned_from is `good`")
    if is_good_parts and len(manifest.classes) != 1:
        collector.add_fault("classes", "must be one: a good-parts model knows no kinds of defects")


def _check_device(folder: Path, manifest: ModelManifest) -> None:
    """Refuse a plan that was built for another kind of device."""
    device = manifest.built.device if manifest.built is not None else ""
    if not device:
        return
    available = gpu_names()
    if device not in available:
        raise ModelError(
            f"was built for {device}; this machine has {', '.join(available) or 'no GPU'}",
            where=str(folder),
            remedy="Build it on this machine: edgeinspect models build",
        )


def _verify_file(folder: Path, name: str, size_bytes: int, sha256: str) -> Path:
    """Return the path of a version's file after checking owner, mode, size and hash."""
    path = (folder / name).resolve()
    if path.parent != folder.resolve() or Path(name).name != name:
        raise ModelError(
            f"its manifest names '{yaml_document.shorten(name)}', which is outside",
            where=str(folder),
            remedy="Put the model file itself, not a link, into the folder of its manifest",
        )
    check_permissions(path)
    digest = hashlib.sha256()
    size = 0
    try:
        if not os.path.isfile(path):  # a name may be too long
            raise ModelError(
                "the model file is missing", where=str(path), remedy="Copy the model again"
            )
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_MODEL_BYTES:
                    break
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"is larger than {MAX_MODEL_BYTES >> 20} MiB", where=str(path))
    if size != size_bytes:
        raise ModelError(
            f"has {size} bytes; its manifest requires {size_bytes}",
            where=str(path),
            remedy="The file is not the one that was accepted: copy the model again",
        )
    if digest.hexdigest() != sha256:
        raise ModelError(
            f"has the SHA-256 {digest.hexdigest()[:12]}…; its manifest requires {sha256[:12]}…",
            where=str(path),
            remedy="The file is not the one that was accepted: copy the model again",
        )
    return path
