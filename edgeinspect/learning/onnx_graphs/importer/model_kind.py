"""What a foreign graph is, where it is neither a classifier nor a segmenter: said, not guessed.

A detector's rows of boxes have the shape of some map, and any numbers can be taken for scores.
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
    "pose": "a network of poses",
    "obb": "a detector of turned boxes",
    "segment": "a segmenter of single objects",
}
"""What ultralytics writes into a graph's metadata."""
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
    "Import a semantic segmenter, which gives a map with a channel per class, or train one: "
    "edgeinspect train segmenter"
)
_ROUNDING_CELLS = 1.0
"""A map's side may be rounded up or down against the input's."""


def check_not_detector(model: onnx.ModelProto, request: ImportRequest) -> None:
    """Refuse what says of itself that it finds boxes, whatever its shapes.

    Raises:
        ModelError: By its metadata, its operators or the names of its outputs it is a detector.
    """
    told = {entry.key: entry.value for entry in model.metadata_props}
    task = told.get("task", "").strip().lower()
    if task in _TASKS or (task == "classify" and request.kind is ModelKind.SEGMENTER):
        what = _TASKS.get(task, "a classifier")
        raise ModelError(
            f"says of itself that it is {what} (task: {task})",
            where=str(request.file),
            remedy=_REMEDY,
        )
    ops = sorted({node.op_type for node in all_nodes(model.graph)} & _DETECTOR_OPS)
    if ops:
        raise ModelError(
            f"is a detector: it has the operator {ops[0]}", where=str(request.file), remedy=_REMEDY
        )
    named = [
        value.name for value in model.graph.output if _DETECTOR_OUTPUT_NAMES.search(value.name)
    ]
    if named and request.output_name not in {value.name for value in model.graph.output}:
        raise ModelError(
            f"is a detector by the name of its output {named[0]}",
            where=str(request.file),
            remedy=_REMEDY,
        )


def all_nodes(graph: onnx.GraphProto) -> Iterator[Any]:
    """The nodes of a graph and of the graphs in its nodes."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        for node in current.node:
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def check_map_proportions(
    name: str,
    shape: Sequence[int],
    size: tuple[int, int],
    request: ImportRequest,
    intake: InputSpec,
) -> None:
    """Refuse a tensor that is no map of its input: one cell must be as high as it is wide.

    Args:
        name: Of the tensor.
        shape: As the network gave it.
        size: Height and width taken from it.
        request: As asked.
        intake: The picture that went in.

    Raises:
        ModelError: Its proportions are others than the picture's.
    """
    height, width = size
    stride = (intake.height_px * intake.width_px / (height * width)) ** 0.5
    wrong = max(abs(intake.height_px / stride - height), abs(intake.width_px / stride - width))
    if wrong <= _ROUNDING_CELLS and stride >= 0.5:
        return
    rows = [side for side in shape if side > 1]
    boxes = len(rows) == 2 and max(rows) >= 20 * min(rows)
    hint = f": {max(rows)} rows of {min(rows)} numbers, as a detector gives" if boxes else ""
    raise ModelError(
        f"{name} of shape {tuple(shape)} is no map of a picture of {intake.height_px}x"
        f"{intake.width_px}{hint}",
        where=str(request.file),
        remedy=_REMEDY,
    )


IMAGE_SIDES = ("left", "right", "top", "bottom")
_MIN_LOCAL_RATIO = 1.2
"""What changes on one side must change that side of a map more, by so much."""


def invert_half(given: NDArray[Any], layout: str, side: str) -> NDArray[Any]:
    """An input of which one half has its values turned upside down."""
    out = given.copy()
    planes = out[0] if layout == "nchw" else out[0].transpose(2, 0, 1)
    half = _half_view(planes, side)
    half[...] = half.max() + half.min() - half
    return out


def responds_locally(before: NDArray[Any], after: NDArray[Any], side: str) -> bool:
    """False for a tensor (1, h, w) whose halves change alike, whatever half of the input did."""
    change = np.abs(after.astype(np.float64) - before.astype(np.float64))
    here = float(_half_view(change, side).mean())
    other = IMAGE_SIDES[IMAGE_SIDES.index(side) ^ 1]
    return not change.any() or here > _MIN_LOCAL_RATIO * float(_half_view(change, other).mean())


def _half_view(planes: NDArray[Any], side: str) -> NDArray[Any]:
    """One half of (c, h, w), as a view."""
    height, width = planes.shape[-2] // 2, planes.shape[-1] // 2
    return {
        "left": planes[..., :width],
        "right": planes[..., -width:],
        "top": planes[..., :height, :],
        "bottom": planes[..., -height:, :],
    }[side]


def raise_not_spatial(name: str, shape: Sequence[int], request: ImportRequest) -> None:
    """Refuse a tensor that knows no places.

    Raises:
        ModelError: Always.
    """
    raise ModelError(
        f"{name} {tuple(shape)} is no map: another half of the picture changes both its halves "
        "alike",
        where=str(request.file),
        remedy=_REMEDY,
    )
