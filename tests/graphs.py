"""Tiny graphs under the model contract, whose outputs numpy can check exactly."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeinspect.domain import HEAT_MAP_CELL_PX
from edgeinspect.domain.frame import FrameShape

SHAPE = FrameShape(32, 48, 1)
CLASSES = ("dark", "bright")
DARK_BELOW = 50
BRIGHT_ABOVE = 200
STRIDE = 2


def gate(shape: FrameShape = SHAPE, *, kind: str = "gate") -> onnx.ModelProto:
    """A gate: defect_prob is the mean pixel over 255."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["defect_prob"]),
    ]
    outputs = [helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1])]
    return _model(shape, nodes, outputs, {"full": 255.0}, kind)


def gate_numpy(image: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    return (np.array([image.mean(dtype=np.float64) / 255], np.float32),)


def segmenter(shape: FrameShape = SHAPE, *, kind: str = "segmenter") -> onnx.ModelProto:
    """A segmenter: every second pixel below 50 is `dark`, above 200 `bright`."""
    height, width = shape.height_px // STRIDE, shape.width_px // STRIDE
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["real", "starts", "ends", "axes", "steps"], ["small"]),
        helper.make_node("Squeeze", ["small", "last"], ["grey"]),
        helper.make_node("Less", ["grey", "dark_below"], ["is_dark"]),
        helper.make_node("Greater", ["grey", "bright_above"], ["is_bright"]),
        helper.make_node("Cast", ["is_dark"], ["dark"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["dark", "bright"], ["any"]),
        helper.make_node("Add", ["any", "bright"], ["class"]),
        helper.make_node("Cast", ["class"], ["class_map"], to=TensorProto.UINT8),
        helper.make_node("ReduceSum", ["dark", "plane"], ["dark_area"], keepdims=0),
        helper.make_node("ReduceSum", ["bright", "plane"], ["bright_area"], keepdims=0),
        helper.make_node("Concat", ["dark_area", "bright_area"], ["areas"], axis=0),
        helper.make_node("Unsqueeze", ["areas", "first"], ["class_area_px"]),
        helper.make_node("Div", ["class_area_px", "pixels"], ["class_score"]),
    ]
    outputs = [
        helper.make_tensor_value_info("class_map", TensorProto.UINT8, [1, height, width]),
        helper.make_tensor_value_info("class_area_px", TensorProto.FLOAT, [1, 2]),
        helper.make_tensor_value_info("class_score", TensorProto.FLOAT, [1, 2]),
    ]
    constants = {
        "dark_below": float(DARK_BELOW),
        "bright_above": float(BRIGHT_ABOVE),
        "pixels": float(height * width),
        "starts": [0, 0],
        "ends": [shape.height_px, shape.width_px],
        "axes": [1, 2],
        "steps": [STRIDE, STRIDE],
        "last": [3],
        "plane": [1, 2],
        "first": [0],
    }
    return _model(shape, nodes, outputs, constants, kind)


def segmenter_numpy(image: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    grey = image[::STRIDE, ::STRIDE, 0]
    class_map = np.where(grey < DARK_BELOW, 1, np.where(grey > BRIGHT_ABOVE, 2, 0))
    area = np.array([[np.sum(class_map == 1), np.sum(class_map == 2)]], np.float32)
    return class_map[None].astype(np.uint8), area, area / np.float32(grey.size)


KINDS = ("dark", "bright", "other")


def kind_centres(kinds: int, decides: str) -> list[float]:
    """Mean pixels at which good, unless it is left out, and each kind are likeliest."""
    return [20.0 + 60 * i for i in range(decides == "kinds", kinds + 1)]


def kinds_gate(
    shape: FrameShape = SHAPE, kinds: tuple[str, ...] = KINDS, *, decides: str = "defects"
) -> onnx.ModelProto:
    """A gate of contract 2: a softmax over good and its kinds by the mean pixel.

    Good is likeliest at 20, kind i at 80 + 60 i: logit = -((mean - centre) / 15)²/2.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "centres"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["square"]),
        helper.make_node("Div", ["square", "scale"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "first"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    centres = kind_centres(len(kinds), decides)
    constants: dict[str, Any] = {"scale": -450.0, "first": [0]}
    if decides == "defects":
        nodes += [
            helper.make_node("Slice", ["probs", "one", "end", "one"], ["class_prob"]),
            helper.make_node("Slice", ["probs", "first", "one", "one"], ["good"]),
            helper.make_node("Squeeze", ["good", "one"], ["good_prob"]),
            helper.make_node("Sub", ["unity", "good_prob"], ["defect_prob"]),
        ]
        constants |= {"one": [1], "end": [len(centres)], "unity": 1.0}
    else:
        nodes += [
            helper.make_node("Identity", ["probs"], ["class_prob"]),
            helper.make_node("ReduceSum", ["class_prob", "one"], ["total"], keepdims=0),
            helper.make_node("Max", ["total", "unity"], ["least"]),
            helper.make_node("Min", ["least", "unity"], ["defect_prob"]),
        ]
        constants |= {"one": [1], "unity": 1.0}
    outputs = [
        helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1]),
        helper.make_tensor_value_info("class_prob", TensorProto.FLOAT, [1, len(kinds)]),
    ]
    model = _model(shape, nodes, outputs, constants, "gate")
    values = helper.make_tensor("centres", TensorProto.FLOAT, [len(centres)], centres)
    model.graph.initializer.append(values)
    _extend(model, classes=json.dumps(list(kinds)), decides=decides)
    return model


def kinds_gate_numpy(
    image: NDArray[np.uint8], kinds: tuple[str, ...] = KINDS, *, decides: str = "defects"
) -> tuple[NDArray[Any], ...]:
    centres = np.array(kind_centres(len(kinds), decides))
    logits = -((image.mean(dtype=np.float64) - centres) ** 2) / 450
    probs = np.exp(logits - logits.max())
    probs /= probs.sum()
    if decides == "kinds":
        return np.ones(1, np.float32), probs[None].astype(np.float32)
    return np.array([1 - probs[0]], np.float32), probs[None, 1:].astype(np.float32)


def good_parts(shape: FrameShape = SHAPE, *, with_heat_map: bool = False) -> onnx.ModelProto:
    """A good-parts model: every second pixel above 200 is unknown; its score is the largest / 255.

    `class_score` is the score of the image where there are such pixels. The heat map, of contract
    3, is the largest pixel of each cell.
    """
    height, width = shape.height_px // STRIDE, shape.width_px // STRIDE
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["real", "starts", "ends", "axes", "steps"], ["small"]),
        helper.make_node("Squeeze", ["small", "last"], ["grey"]),
        helper.make_node("Greater", ["grey", "above"], ["is_unknown"]),
        helper.make_node("Cast", ["is_unknown"], ["unknown"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["unknown"], ["class_map"], to=TensorProto.UINT8),
        helper.make_node("ReduceSum", ["unknown", "plane"], ["cells"], keepdims=0),
        helper.make_node("Mul", ["cells", "cell_px"], ["area"]),
        helper.make_node("Unsqueeze", ["area", "first"], ["class_area_px"]),
        helper.make_node("ReduceMax", ["grey"], ["largest"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["largest", "full"], ["defect_prob"]),
        helper.make_node("Unsqueeze", ["defect_prob", "first"], ["column"]),
        helper.make_node("Min", ["class_area_px", "unity"], ["any"]),
        helper.make_node("Mul", ["column", "any"], ["class_score"]),
    ]
    outputs = [
        helper.make_tensor_value_info("class_map", TensorProto.UINT8, [1, height, width]),
        helper.make_tensor_value_info("class_area_px", TensorProto.FLOAT, [1, 1]),
        helper.make_tensor_value_info("class_score", TensorProto.FLOAT, [1, 1]),
        helper.make_tensor_value_info("defect_prob", TensorProto.FLOAT, [1]),
    ]
    if with_heat_map:
        side = HEAT_MAP_CELL_PX
        rows, columns = -(-shape.height_px // side), -(-shape.width_px // side)
        window = {"kernel_shape": [side, side], "strides": [side, side], "ceil_mode": 1}
        nodes += [
            helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("MaxPool", ["planes"], ["cell_values"], **window),
            helper.make_node("Squeeze", ["cell_values", "channel"], ["cell_rows"]),
            helper.make_node("Cast", ["cell_rows"], ["heat_map"], to=TensorProto.UINT8),
        ]
        outputs.append(
            helper.make_tensor_value_info("heat_map", TensorProto.UINT8, [1, rows, columns])
        )
    constants: dict[str, Any] = {
        "above": float(BRIGHT_ABOVE),
        "channel": [1],
        "cell_px": float(STRIDE**2),
        "full": 255.0,
        "unity": 1.0,
        "starts": [0, 0],
        "ends": [shape.height_px, shape.width_px],
        "axes": [1, 2],
        "steps": [STRIDE, STRIDE],
        "last": [3],
        "plane": [1, 2],
        "first": [0],
    }
    model = _model(shape, nodes, outputs, constants, "segmenter")
    contract = "3" if with_heat_map else "2"
    _extend(model, contract, classes='["unknown"]', learned_from="good")
    return model


def good_parts_numpy(
    image: NDArray[np.uint8], *, with_heat_map: bool = False
) -> tuple[NDArray[Any], ...]:
    grey = image[::STRIDE, ::STRIDE, 0]
    class_map = (grey > BRIGHT_ABOVE)[None].astype(np.uint8)
    area = np.array([[class_map.sum() * STRIDE**2]], np.float32)
    prob = np.array([grey.max() / 255], np.float32)
    outputs = class_map, area, prob[None] * (area > 0), prob
    if not with_heat_map:
        return outputs
    side = HEAT_MAP_CELL_PX
    heat_map = [
        [image[top : top + side, left : left + side, 0].max() for left in range(0, width, side)]
        for height, width in [image.shape[:2]]
        for top in range(0, height, side)
    ]
    return (*outputs, np.array([heat_map], np.uint8))


def _extend(model: onnx.ModelProto, contract: str = "2", **metadata: str) -> None:
    """Make a graph one of a later contract."""
    known = {entry.key: entry.value for entry in model.metadata_props}
    known |= {f"edgeinspect.{key}": value for key, value in metadata.items()}
    helper.set_model_props(model, {**known, "edgeinspect.contract": contract})


def install_kinds_gate(
    root: Path,
    shape: FrameShape = SHAPE,
    kinds: tuple[str, ...] = KINDS,
    *,
    name: str = "tiny-kinds",
    decides: str = "defects",
    **changes: Any,
) -> Path:
    """Put a gate of contract 2 into a store; returns its folder."""
    keys = {"contract": "2", "classes": list(kinds), "decides": decides, **changes}
    graph = kinds_gate(shape, kinds, decides=decides)
    return install(root, graph, name=name, shape=shape, **keys)


def install_good_parts(
    root: Path,
    shape: FrameShape = SHAPE,
    *,
    name: str = "tiny-unknown",
    with_heat_map: bool = False,
    **changes: Any,
) -> Path:
    """Put a good-parts model into a store; returns its folder."""
    contract = "3" if with_heat_map else "2"
    keys = {"contract": contract, "classes": ["unknown"], "learned_from": "good", **changes}
    graph = good_parts(shape, with_heat_map=with_heat_map)
    return install(root, graph, name=name, kind="segmenter", shape=shape, **keys)


def _model(
    shape: FrameShape,
    nodes: list[onnx.NodeProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, float | list[int]],
    kind: str,
) -> onnx.ModelProto:
    tensors = [
        helper.make_tensor(name, TensorProto.INT64, [len(value)], value)
        if isinstance(value, list)
        else helper.make_tensor(name, TensorProto.FLOAT, [], [value])
        for name, value in constants.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *shape.dims])
    graph = helper.make_graph(nodes, kind, [image], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"edgeinspect.kind": kind, "edgeinspect.contract": "1"})
    return model


def install(
    root: Path,
    model: onnx.ModelProto | bytes,
    *,
    name: str = "tiny-gate",
    version: int = 1,
    kind: str = "gate",
    shape: FrameShape = SHAPE,
    **changes: Any,
) -> Path:
    """Put a model with a true manifest into a store; returns its folder.

    Args:
        changes: Manifest keys that replace the true ones; a None removes the key.
    """
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    segmenting = kind == "segmenter"
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "version": version,
        "kind": kind,
        "file": "model.onnx",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "precision": "fp32",
        "opset": 17,
        "input": {
            "height_px": shape.height_px,
            "width_px": shape.width_px,
            "channels": shape.channels,
            "color": "mono" if shape.channels == 1 else "bgr",
        },
        "classes": list(CLASSES) if segmenting else [],
        "output_stride": STRIDE if segmenting else 1,
        "thresholds": {"suspect_at": 0.5},
        "training": {"run": "none"},
        "accuracy": {},
        "created": "2026-11-22",
        **changes,
    }
    kept = {key: value for key, value in manifest.items() if value is not None}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    return folder
