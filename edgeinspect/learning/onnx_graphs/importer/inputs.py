"""Opening a foreign ONNX file, and finding out what goes into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import MissingExtraError, ModelError, UsageError
from edgeinspect.imaging import DATASET_PIXELS_MAX
from edgeinspect.learning.onnx_graphs.importer.file_kind import identify_file
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest, InputSpec, Layout
from edgeinspect.system import open_regular

if TYPE_CHECKING:
    import onnx

MAX_MODEL_BYTES = 512 << 20
"""Weights included; a store takes no larger file."""
_SMALLER_REMEDY = "Export a smaller network, without the state of its training"
_FLOAT32_REMEDY = "Export the network in float32 (torch: model.float())"
MAX_IR_VERSION = 10
"""Of the file format's version; that of torch's exporter."""


def load_foreign_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data; whether it is sound, ONNX Runtime will tell.

    Raises:
        ModelError: No such file, no ONNX, cut off, or data beside it missing.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    where = str(path)
    if not path.is_file():
        raise ModelError("there is no such file", where=where, remedy="Name an .onnx file")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(
            f"is larger than {MAX_MODEL_BYTES >> 20} MB", where=where, remedy=_SMALLER_REMEDY
        )
    if (known := identify_file(path)) is not None:
        raise ModelError(f"is {known[0]}, no ONNX file", where=where, remedy=known[1])
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's, by the implementation that is installed
        raise ModelError(
            "is no ONNX file, or is cut off", where=where, remedy="Copy or export it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError("holds no ONNX graph", where=where, remedy="Copy or export it again")
    opset = opset_of(model)
    if opset > (newest := onnx.defs.onnx_opset_version()):
        raise ModelError(
            f"is of opset {opset}; the onnx that is installed knows up to {newest}",
            where=where,
            remedy="Export it with opset_version=20, or install a newer onnx and onnxruntime",
        )
    try:
        _check_external_data(onnx, model, path.parent)
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(
            f"its weights are in another file, which cannot be read: {_one_line(error)}",
            where=where,
            remedy="Copy the data file beside it",
        ) from error
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    # Newer file formats only add what networks of pictures do not use, and runtimes lag.
    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    if model.ByteSize() > MAX_MODEL_BYTES:
        raise ModelError(
            f"is larger than {MAX_MODEL_BYTES >> 20} MB with its weights",
            where=where,
            remedy=_SMALLER_REMEDY,
        )
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set; 0 without one."""
    return max(
        (int(e.version) for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0
    )


def _check_external_data(onnx: Any, model: onnx.ModelProto, folder: Path) -> None:
    """Raise for data that is no regular file, or more than is taken, before it is read."""
    helper = onnx.external_data_helper
    names = {
        helper.ExternalDataInfo(tensor).location
        for tensor in helper._get_all_tensors(model)
        if helper.uses_external_data(tensor)
    }
    size = 0
    for name in names:
        # By its name alone: a graph is foreign, and may name any file of this machine.
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} lies outside of the folder")
        with open_regular(folder / name) as file:
            size += file.seek(0, os.SEEK_END)
    if size > MAX_MODEL_BYTES:
        raise ValueError(f"it is larger than {MAX_MODEL_BYTES >> 20} MB")


def find_input(model: onnx.ModelProto, request: ImportRequest, findings: list[str]) -> InputSpec:
    """Which input takes the picture, and in which form.

    Args:
        model: The foreign graph.
        request: What is known.
        findings: Appended to.

    Raises:
        ModelError: There is none, or more than one, or it is of a form that no picture has.
        UsageError: The graph leaves open what an option must say.
    """
    where = str(request.file)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(
            f"a picture goes into one input; this graph has: {names}",
            where=where,
            remedy="Export the network with the others as constants",
        )
    value = inputs[0]
    dims = _dims(value)
    dtype = _dtype(value, where)
    if len(dims) != 4:
        raise ModelError(
            f"input {value.name} has {len(dims)} dimensions; a picture has 4", where=where
        )
    if dims[0] not in (None, 1):
        raise ModelError(
            f"input {value.name} takes {dims[0]} pictures at once; the line has one",
            where=where,
            remedy="Export it with a batch of 1, or of any size",
        )
    layout = request.layout or _infer_layout(dims, value.name, findings)
    channels_at, height_at, width_at = (1, 2, 3) if layout == "nchw" else (3, 1, 2)
    channels = dims[channels_at] or request.channels
    if channels not in (1, 3) or (channels == 1 and request.channels == 3):
        raise ModelError(
            f"input {value.name} has {channels} channels as {layout}, the frame has "
            f"{request.channels}",
            where=where,
            remedy="Correct --channels or --layout",
        )
    height = _resolve_size(
        dims[height_at], request.model_height_px, request.height_px, "height", findings
    )
    width = _resolve_size(
        dims[width_at], request.model_width_px, request.width_px, "width", findings
    )
    if height * width > DATASET_PIXELS_MAX:
        raise ModelError(
            f"input {value.name} is {height} x {width} px; more than {DATASET_PIXELS_MAX} px "
            "are no "
            "picture",
            where=where,
            remedy="Export it for the size of the line's frames",
        )
    if channels == 3 and request.channels == 1:
        findings.append("frames are grey: each of the network's three channels gets the grey")
    if (height, width) != (request.height_px, request.width_px):
        findings.append(f"frames are resized to the network's own {height}x{width}, linearly")
    mean, std = _mean_and_std(request, channels)
    if dtype == np.uint8 and (request.scale != 1 or any(mean) or set(std) != {1.0}):
        raise UsageError(
            "the network takes bytes: it cannot be given scaled ones",
            where="--scale",
            remedy="Give --scale 1, without --mean and --std",
        )
    flips = _channels_swapped(request, channels)
    return InputSpec(value.name, dtype, layout, height, width, channels, mean, std, flips)


def open_session(model: bytes, where: str) -> Any:
    """A session on the processor.

    Raises:
        ModelError: ONNX Runtime cannot load the graph.
        MissingExtraError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("cpu", "onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no base class below this one
        raise ModelError(
            f"ONNX Runtime cannot load it: {_one_line(error)}",
            where=where,
            remedy=_FLOAT32_REMEDY
            if "bfloat16" in str(error)
            else "Export it again with standard operators",
        ) from error


def run_session(
    session: Any, feed: dict[str, NDArray[Any]], outputs: list[str] | None, where: str
) -> list[Any]:
    """Outputs of one inference: arrays, or what else a graph can give.

    Raises:
        ModelError: It fails.
    """
    try:
        return list(session.run(outputs, feed))
    except Exception as error:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feed.items())
        raise ModelError(
            f"it does not run on {shapes}: {_one_line(error)}",
            where=where,
            remedy="Correct --layout, or name with --model-size a size that it takes",
        ) from error


def _dims(value: Any) -> list[int | None]:
    shape = value.type.tensor_type.shape
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in shape.dim]


def _dtype(value: Any, where: str) -> Any:
    import onnx

    found = value.type.tensor_type.elem_type
    known = {
        onnx.TensorProto.FLOAT: np.float32,
        onnx.TensorProto.FLOAT16: np.float16,
        onnx.TensorProto.DOUBLE: np.float64,
        onnx.TensorProto.UINT8: np.uint8,
    }
    if found not in known:
        name = onnx.TensorProto.DataType.Name(found).lower()
        raise ModelError(
            f"input {value.name} is {name}; a picture is float, float16, double or uint8",
            where=where,
            remedy=_FLOAT32_REMEDY,
        )
    return known[found]


def _infer_layout(dims: list[int | None], name: str, findings: list[str]) -> Layout:
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if first == last:
        sizes = ", ".join("?" if size is None else str(size) for size in dims)
        raise UsageError(
            f"whether input {name} ({sizes}) has its channels first or last cannot be told",
            remedy="Give --layout nchw or --layout nhwc",
        )
    layout: Layout = "nchw" if first else "nhwc"
    findings.append(f"layout {layout}, from the shape of input {name}")
    return layout


def _resolve_size(
    fixed: int | None, asked: int | None, frame: int, what: str, findings: list[str]
) -> int:
    if fixed is None:
        findings.append(f"{what} is free in the graph and fixed to {asked or frame}")
        return asked or frame
    if asked is not None and asked != fixed:
        raise UsageError(f"the network's {what} is fixed to {fixed}", where="--model-size")
    return fixed


def _mean_and_std(
    request: ImportRequest, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One number stands for every channel."""
    out = []
    for option, values, plain in (("--mean", request.mean, 0.0), ("--std", request.std, 1.0)):
        given = tuple(map(float, values)) or (plain,)
        if len(given) not in (1, channels):
            raise UsageError(
                f"{len(given)} numbers for {channels} channels",
                where=option,
                remedy="Give one, or one per channel of the network",
            )
        out.append(given if len(given) == channels else given * channels)
    return out[0], out[1]


def _channels_swapped(request: ImportRequest, channels: int) -> bool:
    if request.channels == 1 or channels == 1:
        return False
    if request.color is None:
        raise UsageError(
            "in which order the network expects its colours cannot be told",
            remedy="Give --color rgb or --color bgr (torchvision's and timm's expect rgb)",
        )
    return request.color != request.frame_color


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:240]
