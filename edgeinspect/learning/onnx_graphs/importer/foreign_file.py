"""Loading an ONNX file from another tool, and naming files that are not ONNX."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeinspect.errors import MissingExtraError, ModelError
from edgeinspect.learning.onnx_graphs.graph import error_text, opset_version
from edgeinspect.system import open_regular

if TYPE_CHECKING:
    import onnx

MAX_MODEL_BYTES = 512 << 20
"""Largest model with its weights; the model store takes no larger file."""
MAX_IR_VERSION = 10
"""Version of the file format that torch's exporter writes."""
_SMALLER_REMEDY = "Export a smaller network, without the state of its training"
_COPY_REMEDY = "Copy or export it again"
_HEAD_BYTES = 64
_TORCH = "Export the network: torch.onnx.export(model.eval(), example, 'model.onnx')"
_KERAS = "Convert it: python -m tf2onnx.convert"
_PICKLE = "a pickled object, as PyTorch writes"
_PLAN_REMEDY = "Give the ONNX file that it was built from"
_SIGNATURES = (
    (
        0,
        b"PK\x03\x04",
        "a zip archive, as PyTorch (.pt) and Keras (.keras) write",
        f"{_TORCH}, or for Keras python -m tf2onnx.convert; unpack an archive that holds an "
        "ONNX file",
    ),
    (0, b"\x80\x02", _PICKLE, _TORCH),
    (0, b"\x80\x03", _PICKLE, _TORCH),
    (0, b"\x80\x04", _PICKLE, _TORCH),
    (0, b"\x80\x05", _PICKLE, _TORCH),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _KERAS),
    (4, b"TFL3", "a TensorFlow Lite file", f"{_KERAS} --tflite"),
    (0, b"ftrt", "a TensorRT plan", _PLAN_REMEDY),
    (0, b"ptrt", "a TensorRT plan", _PLAN_REMEDY),
    (0, b"version https://git-lfs", "a Git LFS pointer", "Fetch the file: git lfs pull"),
    (
        0,
        b"<",
        "an XML or HTML text",
        "Give the ONNX file: OpenVINO's IR is made from one, and a failed download gives a web "
        "page",
    ),
    (0, b"\x1f\x8b", "a gzip file", "Unpack it"),
)
"""Offset, magic bytes, description, remedy."""


def identify_file(path: Path) -> tuple[str, str] | None:
    """Return description and remedy of a file that is not ONNX; None if it may be ONNX.

    Raises:
        DataError: It is not a regular file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    for offset, magic, description, remedy in _SIGNATURES:
        if head[offset:].startswith(magic):
            return description, remedy
    return None


def load_foreign_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data. Its validity is left to ONNX Runtime.

    Raises:
        ModelError: The file is missing, not ONNX, truncated, or its external data is missing.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    where = str(path)
    if not path.is_file():
        raise ModelError("there is no such file", where=where, remedy="Name an .onnx file")
    limit = f"is larger than {MAX_MODEL_BYTES >> 20} MB"
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(limit, where=where, remedy=_SMALLER_REMEDY)
    if (other := identify_file(path)) is not None:
        raise ModelError(f"is {other[0]}, not an ONNX file", where=where, remedy=other[1])
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # the exception type depends on the installed protobuf
        what = "is not an ONNX file, or is truncated"
        raise ModelError(what, where=where, remedy=_COPY_REMEDY) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError("contains no ONNX graph", where=where, remedy=_COPY_REMEDY)
    opset = opset_version(model)
    if opset > (newest := onnx.defs.onnx_opset_version()):
        raise ModelError(
            f"has opset {opset}; the installed onnx supports up to {newest}",
            where=where,
            remedy="Export it with opset_version=20, or install a newer onnx and onnxruntime",
        )
    try:
        _check_external_data(onnx, model, path.parent)
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(
            f"its weights are in another file, which cannot be read: {error_text(error)}",
            where=where,
            remedy="Copy the data file into the same folder",
        ) from error
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    # Newer file formats only add features that image networks do not use; runtimes lag behind.
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise ModelError(f"{limit} with its weights", where=where, remedy=_SMALLER_REMEDY)
    return model


def _check_external_data(onnx: Any, model: onnx.ModelProto, folder: Path) -> None:
    """Raise, before reading it, if external data is not a regular file or is too large."""
    helper = onnx.external_data_helper
    names = {
        helper.ExternalDataInfo(tensor).location
        for tensor in helper._get_all_tensors(model)
        if helper.uses_external_data(tensor)
    }
    size_bytes = 0
    for name in names:
        # Checked by name: an untrusted graph may name any file of this machine.
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} lies outside of the folder")
        with open_regular(folder / name) as file:
            size_bytes += file.seek(0, os.SEEK_END)
    if size_bytes > MAX_MODEL_BYTES:
        raise ValueError(f"it is larger than {MAX_MODEL_BYTES >> 20} MB")
