"""Tiny graphs under the model contract, whose outputs numpy can check exactly."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper

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
