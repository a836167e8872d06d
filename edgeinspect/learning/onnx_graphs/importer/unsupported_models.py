"""Detection of foreign models that are neither a classifier nor a semantic segmenter.

Rows of boxes have the shape of some class map, and any number can pass for a score, so shapes
alone do not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind
from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest, InputSpec

if TYPE_CHECKING:
    import onnx

_TASKS = {
    "detect": "a detector",
    "pose": "a pose network",
    "obb": "a detector of rotated boxes",
    "segment": "an instance segmenter",
}
"""Task in the graph metadata that ultralytics writes, and its description."""
_DETECTOR_OPS = frozenset(
    (
        "NonMaxSuppression",
        "RoiAlign",
        "MaxRoiPool",
        "EfficientNMS_TRT",
        "BatchedNMS_TRT",
        "BatchedNMSDynamic_TRT",
        "NonMaxSuppression_TRT",
        "MultilevelCropAndResize_TRT",
    )
)
_DETECTOR_OUTPUT_NAMES = re.compile(
    r"(^|[^a-z])(pred_)?(boxes|bboxes|bbox|dets|detections?|detection_[a-z]+|num_dets|keypoints?|"
    r"anchors?|pred_logits|pred_boxes|labels_and_boxes)([^a-z]|$)",
    re.IGNORECASE,
)
_REMEDY = (
    "Import a semantic segmenter, which outputs a map with a channel per class, or train one: "
    "edgeinspect train segmenter"
)
_ROUNDING_CELLS = 1.0
"""Rounding allowed when a map's side is compared with the input's."""


def check_not_detector(model: onnx.ModelProto, request: ImportRequest) -> None:
    """Raise if metadata, operators or output names identify a detector.

    Raises:
        ModelError: The model is a detector.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    task = metadata.get("task", "").strip().lower()
    if task in _TASKS or (task == "classify" and request.kind is ModelKind.SEGMENTER):
        description = _TASKS.get(task, "a classifier")
        raise ModelError(
            f"is {description} by its metadata (task: {task})",
            where=str(request.file),
            remedy=_REMEDY,
        )
    ops = sorted({node.op_type for node in all_nodes(model.graph)} & _DETECTOR_OPS)
    if ops:
        raise ModelError(
            f"is a detector: it has the operator {ops[0]}", where=str(request.file), remedy=_REMEDY
        )
    detector_outputs = [
        value.name for value in model.graph.output if _DETECTOR_OUTPUT_NAMES.search(value.name)
    ]
    if detector_outputs and request.output_name not in {value.name for value in model.graph.output}:
        raise ModelError(
            f"is a detector by the name of its output {detector_outputs[0]}",
            where=str(request.file),
            remedy=_REMEDY,
        )


def all_nodes(graph: onnx.GraphProto) -> Iterator[Any]:
    """Yield the nodes of a graph and of its subgraphs."""
    pending = [graph]
    while pending:
        current = pending.pop()
        for node in current.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def check_map_proportions(
    name: str,
    shape: Sequence[int],
    size: tuple[int, int],
    request: ImportRequest,
    input_spec: InputSpec,
) -> None:
    """Raise if a tensor cannot be a map of its input: cells must be square.

    Args:
        name: The tensor.
        shape: Its shape.
        size: Its height and width in cells.
        request: What the user specified.
        input_spec: The image input.

    Raises:
        ModelError: The proportions differ from the image's.
    """
    height, width = size
    stride = (input_spec.height_px * input_spec.width_px / (height * width)) ** 0.5
    deviation_cells = max(
        abs(input_spec.height_px / stride - height), abs(input_spec.width_px / stride - width)
    )
    if deviation_cells <= _ROUNDING_CELLS and stride >= 0.5:
        return
    sides = [side for side in shape if side > 1]
    looks_like_boxes = len(sides) == 2 and max(sides) >= 20 * min(sides)
    hint = (
        f": {max(sides)} rows of {min(sides)} numbers, as from a detector"
        if looks_like_boxes
        else ""
    )
    raise ModelError(
        f"{name} of shape {tuple(shape)} is not a map of an image of {input_spec.height_px}x"
        f"{input_spec.width_px}{hint}",
        where=str(request.file),
        remedy=_REMEDY,
    )


IMAGE_SIDES = ("left", "right", "top", "bottom")
_MIN_LOCAL_RATIO = 1.2
"""A change on one side must change that side of a map by at least this factor more."""


def invert_half(original: NDArray[Any], layout: str, side: str) -> NDArray[Any]:
    """Return a copy of an input with the values of one half inverted."""
    out = original.copy()
    planes = out[0] if layout == "nchw" else out[0].transpose(2, 0, 1)
    half = _half_view(planes, side)
    half[...] = half.max() + half.min() - half
    return out


def responds_locally(before: NDArray[Any], after: NDArray[Any], side: str) -> bool:
    """Return False if both halves of a tensor (1, h, w) change alike with one input half."""
    change = np.abs(after.astype(np.float64) - before.astype(np.float64))
    change_here = float(_half_view(change, side).mean())
    opposite = IMAGE_SIDES[IMAGE_SIDES.index(side) ^ 1]
    return not change.any() or change_here > _MIN_LOCAL_RATIO * float(
        _half_view(change, opposite).mean()
    )


def _half_view(planes: NDArray[Any], side: str) -> NDArray[Any]:
    """Return one half of (c, h, w), as a view."""
    height, width = planes.shape[-2] // 2, planes.shape[-1] // 2
    return {
        "left": planes[..., :width],
        "right": planes[..., -width:],
        "top": planes[..., :height, :],
        "bottom": planes[..., -height:, :],
    }[side]


def raise_not_spatial(name: str, shape: Sequence[int], request: ImportRequest) -> None:
    """Raise for a tensor without spatial correspondence to the input.

    Raises:
        ModelError: Always.
    """
    raise ModelError(
        f"{name} {tuple(shape)} is not a map: a change in one half of the image changes both of "
        "its halves alike",
        where=str(request.file),
        remedy=_REMEDY,
    )
