"""Writes an imported graph into a store as a new version, with what its manifest says."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import BASE_CONTRACT, EXTENDED_CONTRACT, Decides, ModelKind
from edgeinspect.errors import OutputError, UsageError
from edgeinspect.learning.onnx_graphs.importer.contract_graph import FOREIGN_PREFIX
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest
from edgeinspect.learning.onnx_graphs.manifest import ModelCard, write_manifest
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelVersions,
    check_lineage,
    read_manifest,
    read_model,
)
from edgeinspect.system import sha256_of

if TYPE_CHECKING:
    import onnx


_QUANTIZED_OPS = frozenset(
    (
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    )
)


def model_card(
    request: ImportRequest, folder: Path, raw_outputs: list[NDArray[Any]], kinds: Sequence[int]
) -> ModelCard:
    """Return what the manifest says of an imported model; the folder gives name and version."""
    gate_classes = tuple(request.classes[i] for i in kinds) or ("defect",)
    digest = sha256_of(request.file)
    specified = {
        "file": request.file.name,
        "sha256": digest,
        "scale": request.scale,
        "mean": [float(value) for value in request.mean],
        "std": [float(value) for value in request.std],
        "color": request.color,
        "good_index": request.good_index,
        "defect_index": request.defect_index,
        "outputs": list(request.classes) if request.kind is ModelKind.GATE else None,
        "thresholds": list(request.thresholds) if request.kind is ModelKind.SEGMENTER else None,
        "samples": len(raw_outputs),
    }
    return ModelCard(
        name=folder.parent.name,
        version=int(folder.name),
        classes=gate_classes if request.kind is ModelKind.GATE else tuple(request.classes),
        run=f"import-{digest[:12]}",
        thresholds={},
        training={
            "run": f"import-{digest[:12]}",
            "imported": {key: value for key, value in specified.items() if value is not None},
        },
        accuracy={},
        created=datetime.date.today().isoformat(),
        contract=EXTENDED_CONTRACT if kinds else BASE_CONTRACT,
        decides=Decides.KINDS if request.kinds_only else Decides.DEFECTS,
    )


def next_version_folder(store: Path, name: str, version: int | None) -> Path:
    """Return the folder of the new version.

    Raises:
        UsageError: The name is invalid.
        OutputError: The version exists.
    """
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_"
    if not name or len(name) > 64 or name[0] in "-_" or set(name) - set(allowed):
        raise UsageError(
            f"'{name}' is not a valid model name",
            where="--name",
            remedy="Use lower-case letters, digits, - and _",
        )
    existing = [int(path.name) for path in (store / name).glob("*") if path.name.isdecimal()]
    if version is None:
        version = max(existing, default=0) + 1
    elif version in existing:
        raise OutputError(
            f"{name}/{version} exists already",
            where="--version",
            remedy="Leave --version out for the next free one",
        )
    return store / name / str(version)


def graph_precision(model: onnx.ModelProto) -> str:
    """Return the type of most of the arithmetic, by operators and weights."""
    import onnx

    if any(node.op_type in _QUANTIZED_OPS for node in model.graph.node):
        return "int8"
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    sizes = {onnx.TensorProto.FLOAT: 0, onnx.TensorProto.FLOAT16: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes and tensor.name.startswith(
            FOREIGN_PREFIX
        ):  # ours do not count
            sizes[tensor.data_type] += int(np.prod(tensor.dims, dtype=np.int64))
    for tensor in constants:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims, dtype=np.int64))
    return "fp16" if sizes[onnx.TensorProto.FLOAT16] > sizes[onnx.TensorProto.FLOAT] else "fp32"


def install_version(
    folder: Path,
    data: bytes,
    card: ModelCard,
    metadata: dict[str, str],
    opset: int,
    request: ImportRequest,
    precision: str,
) -> None:
    """Write graph and manifest into a temporary folder, read them as a line does, then rename it.

    Raises:
        ModelError: A line would reject the version, or it is another model than those of its name.
        OutputError: The store cannot be written.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp makes 0700; the line may run as another user
        path = temporary / "model.onnx"
        path.write_bytes(data)
        dims = (request.height_px, request.width_px, request.channels)
        write_manifest(temporary, path, card, metadata, opset, dims, precision=precision)
        read_model(temporary)
        if not request.replaces_lineage:
            check_lineage(ModelVersions(folder.parent), read_manifest(temporary / MANIFEST_FILE))
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror}", where=str(folder), remedy="Nothing was changed"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
