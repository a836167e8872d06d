"""Rewrites a stride-2 stem as SpaceToDepth plus stride 1 on four times the channels.

A convolution over one grey channel leaves three of four lanes of every int8 dot product idle.
Moving each 2x2 block of pixels and its weights into channels computes the same sums with all
lanes used.
Source: docs/explanation/decisions/0012-calibration.md
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.calibrate.qdq_placement import first_conv
from edgeinspect.learning.onnx_graphs.graph import (
    GraphIndex,
    drop_unused_initializers,
    node_attribute,
)

BLOCK = 2
MAX_CHANNELS = 4
"""Maximum number of input channels for which this is faster."""


def space_to_depth_stem(model: Any) -> str | None:
    """Rewrite the first convolution of a graph in place if it has stride 2 and few channels.

    The result is equal up to rounding: the same products are added in another order.

    Returns:
        The new input tensor of the convolution; None if nothing was changed.
    """
    from onnx import helper, numpy_helper

    graph = GraphIndex(model)
    node = _find_stem(graph)
    if node is None:
        return None
    weight = graph.constant(node.input[1])
    height, width = _plane_size(model, node.input[0])
    if height % BLOCK or width % BLOCK:
        return None
    pads = list(node_attribute(node, "pads", [0, 0, 0, 0]))
    moved, new_pads = _rearrange_weights(weight, pads, (height, width))
    blocks = f"{node.input[0]}_blocks"
    name = f"{node.output[0]}_blocks_weight"
    model.graph.initializer.append(numpy_helper.from_array(moved, name))
    node_index = graph.position(node)
    model.graph.node.insert(
        node_index,
        helper.make_node(
            "SpaceToDepth", [node.input[0]], [blocks], blocksize=BLOCK, name=f"{blocks}_move"
        ),
    )
    node.input[0], node.input[1] = blocks, name
    attributes = [e for e in node.attribute if e.name not in ("pads", "strides", "kernel_shape")]
    del node.attribute[:]
    node.attribute.extend(attributes)
    node.attribute.extend(
        [
            helper.make_attribute("pads", new_pads),
            helper.make_attribute("strides", [1, 1]),
            helper.make_attribute("kernel_shape", list(moved.shape[2:])),
        ]
    )
    drop_unused_initializers(model)
    return blocks


def _find_stem(graph: GraphIndex) -> Any | None:
    node = first_conv(graph)
    if node is None or not graph.is_constant(node.input[1]):
        return None
    fits = (
        list(node_attribute(node, "strides", [1, 1])) == [BLOCK, BLOCK]
        and list(node_attribute(node, "dilations", [1, 1])) == [1, 1]
        and node_attribute(node, "group", 1) == 1
        and node_attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and graph.constant(node.input[1]).shape[1] <= MAX_CHANNELS
    )
    return node if fits else None


def _plane_size(model: Any, tensor: str) -> tuple[int, int]:
    """Return height and width of an NCHW tensor by shape inference; (1, 1) if unknown."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*inferred.graph.value_info, *inferred.graph.input):
        if value.name == tensor and len(value.type.tensor_type.shape.dim) == 4:
            dims = value.type.tensor_type.shape.dim
            return max(1, dims[2].dim_value), max(1, dims[3].dim_value)
    return 1, 1


def _rearrange_weights(
    weight: NDArray[Any], pads: list[int], size: tuple[int, int]
) -> tuple[NDArray[Any], list[int]]:
    """Return weights over blocks, and pads that keep the output size.

    Weight k of the old kernel is at pixel 2 (o + u) + r of output o, with
    k = 2 u + r + pad: block u of the new kernel, position r inside it.
    """
    outputs, channels, *kernel = weight.shape
    lows = [-((pads[axis] + 1) // BLOCK) for axis in (0, 1)]
    highs = [(kernel[axis] - 1 - pads[axis]) // BLOCK for axis in (0, 1)]
    spans = [high - low + 1 for low, high in zip(lows, highs, strict=True)]
    moved = np.zeros((outputs, BLOCK * BLOCK * channels, *spans), weight.dtype)
    for row in range(kernel[0]):
        down, inner_row = divmod(row - pads[0], BLOCK)
        for column in range(kernel[1]):
            right, inner_column = divmod(column - pads[1], BLOCK)
            start = (inner_row * BLOCK + inner_column) * channels
            moved[:, start : start + channels, down - lows[0], right - lows[1]] = weight[
                :, :, row, column
            ]
    ends = []
    for axis in (0, 1):
        count = (size[axis] + pads[axis] + pads[axis + 2] - kernel[axis]) // BLOCK + 1
        ends.append(count - size[axis] // BLOCK + lows[axis] + spans[axis] - 1)
    return moved, [-lows[0], -lows[1], *ends]
