"""Interpretation of a foreign graph's input: tensor, layout, size, scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeinspect.errors import ModelError, UsageError
from edgeinspect.imaging import DATASET_PIXELS_MAX
from edgeinspect.learning.onnx_graphs.importer.request import (
    ImportRequest,
    InputSpec,
    Layout,
    UndeterminedOptionError,
)
from edgeinspect.learning.onnx_graphs.session import FLOAT32_REMEDY

if TYPE_CHECKING:
    import onnx


def find_input(model: onnx.ModelProto, request: ImportRequest, notes: list[str]) -> InputSpec:
    """Return the input that takes the image, and its form.

    Args:
        model: The foreign graph.
        request: What the user specified.
        notes: Receives what was inferred.

    Raises:
        ModelError: There is no image input, more than one input, or an unsupported form.
        UsageError: The graph is ambiguous and an option must decide.
    """
    where = str(request.file)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(
            f"an image goes into one input; this graph has: {names}",
            where=where,
            remedy="Export the network with the others as constants",
        )
    value = inputs[0]
    dims = _dims(value)
    dtype = _dtype(value, where)
    if len(dims) != 4:
        raise ModelError(
            f"input {value.name} has {len(dims)} dimensions; an image has 4", where=where
        )
    if dims[0] not in (None, 1):
        raise ModelError(
            f"input {value.name} takes {dims[0]} images at once; the line has one",
            where=where,
            remedy="Export it with a batch of 1, or of any size",
        )
    layout = request.layout or _infer_layout(dims, value.name, notes)
    channel_axis, height_axis, width_axis = (1, 2, 3) if layout == "nchw" else (3, 1, 2)
    channels = dims[channel_axis] or request.channels
    if channels not in (1, 3) or (channels == 1 and request.channels == 3):
        raise ModelError(
            f"input {value.name} has {channels} channels as {layout}, the frame has "
            f"{request.channels}",
            where=where,
            remedy="Correct --channels or --input-layout",
        )
    height = _resolve_size(
        "height", dims[height_axis], request.model_height_px, request.height_px, notes
    )
    width = _resolve_size(
        "width", dims[width_axis], request.model_width_px, request.width_px, notes
    )
    if height * width > DATASET_PIXELS_MAX:
        raise ModelError(
            f"input {value.name} is {height} x {width} px; more than {DATASET_PIXELS_MAX} px "
            "are not an image",
            where=where,
            remedy="Export it for the size of the line's frames",
        )
    if channels == 3 and request.channels == 1:
        notes.append("frames are grey: each of the network's three channels gets the grey level")
    if (height, width) != (request.height_px, request.width_px):
        notes.append(f"frames are resized to the network's own {height}x{width}, linearly")
    mean, std = _mean_and_std(request, channels)
    if dtype == np.uint8 and (request.scale != 1 or any(mean) or set(std) != {1.0}):
        raise UsageError(
            "the network takes bytes, which cannot be scaled",
            where="--scale",
            remedy="Give --scale 1, without --mean and --std",
        )
    swapped = _channels_swapped(request, channels)
    return InputSpec(value.name, dtype, layout, height, width, channels, mean, std, swapped)


def _dims(value: Any) -> list[int | None]:
    shape = value.type.tensor_type.shape
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in shape.dim]


def _dtype(value: Any, where: str) -> Any:
    import onnx

    element_type = value.type.tensor_type.elem_type
    supported = {
        onnx.TensorProto.FLOAT: np.float32,
        onnx.TensorProto.FLOAT16: np.float16,
        onnx.TensorProto.DOUBLE: np.float64,
        onnx.TensorProto.UINT8: np.uint8,
    }
    if element_type not in supported:
        name = onnx.TensorProto.DataType.Name(element_type).lower()
        raise ModelError(
            f"input {value.name} is {name}; an image is float, float16, double or uint8",
            where=where,
            remedy=FLOAT32_REMEDY,
        )
    return supported[element_type]


def _infer_layout(dims: list[int | None], name: str, notes: list[str]) -> Layout:
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if first == last:
        sizes = ", ".join("?" if size is None else str(size) for size in dims)
        raise UndeterminedOptionError(
            f"input {name} ({sizes}) may have its channels first or last",
            remedy="Give --input-layout nchw or --input-layout nhwc",
            assumed={"layout": "nchw"},
        )
    layout: Layout = "nchw" if first else "nhwc"
    notes.append(f"layout {layout}, from the shape of input {name}")
    return layout


def _resolve_size(
    what: str, fixed: int | None, requested: int | None, frame: int, notes: list[str]
) -> int:
    if fixed is None:
        notes.append(f"{what} is free in the graph and fixed to {requested or frame}")
        return requested or frame
    if requested is not None and requested != fixed:
        raise UsageError(f"the network's {what} is fixed to {fixed}", where="--model-size")
    return fixed


def _mean_and_std(
    request: ImportRequest, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation per channel; a single number applies to every channel."""
    out = []
    for option, values, default in (("--mean", request.mean, 0.0), ("--std", request.std, 1.0)):
        given = tuple(map(float, values)) or (default,)
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
        raise UndeterminedOptionError(
            "the graph does not show the colour order that the network expects",
            remedy="Give --color rgb or --color bgr (torchvision's and timm's expect rgb)",
            assumed={"color": request.frame_color},
        )
    return request.color != request.frame_color
