"""A small working segmenter for bright and dark patches, a data set, and outlier channels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeinspect.domain.frame import FrameShape
from edgeinspect.learning.calibrate.sampling import FrameMetrics
from tests.graphs import install

SHAPE = FrameShape(32, 64, 1)
CLASSES = ("bright", "dark")
CHANNELS = 16
LAYERS = ("first", "second", "third")


def segmenter(seed: int = 3) -> Any:
    """Three int8 convolutions with a residual Add, a logits convolution, the contract's end."""
    rng = np.random.default_rng(seed)
    weights = {
        "first_weight": _first(rng),
        "first_bias": _bias(),
        "second_weight": _passing(rng),
        "second_bias": np.zeros(CHANNELS, np.float32),
        "third_weight": _passing(rng),
        "third_bias": np.zeros(CHANNELS, np.float32),
        "logits_weight": _logits(),
        "logits_bias": np.array([1.0, 0, 0], np.float32),
        "scale": np.array(1 / 255, np.float32),
        "one": np.array(1, np.float32),
        "stride": np.array(1, np.float32),
        "plane": np.array([1, 2], np.int64),
        "axis1": np.array([1], np.int64),
        **{f"id{k}": np.array(float(k), np.float32) for k in (1, 2)},
        **{f"at{k}": np.array(k, np.int64) for k in (1, 2)},
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        node("Mul", ["planes", "scale"], ["x"]),
        _conv("x", "first"),
        node("Relu", ["first"], ["first_relu"]),
        _conv("first_relu", "second"),
        node("Relu", ["second"], ["second_relu"]),
        _conv("second_relu", "third"),
        node("Add", ["third", "first_relu"], ["sum"]),
        node("Relu", ["sum"], ["sum_relu"]),
        node("Conv", ["sum_relu", "logits_weight", "logits_bias"], ["logits"], name="logits"),
        node("Softmax", ["logits"], ["probs"], axis=1),
        node("ArgMax", ["logits"], ["winner"], axis=1, keepdims=0),
        node("Cast", ["winner"], ["winner_real"], to=TensorProto.FLOAT),
        node("Cast", ["winner_real"], ["class_map"], to=TensorProto.UINT8),
    ]
    for k in (1, 2):
        nodes += [
            node("Equal", ["winner_real", f"id{k}"], [f"is{k}"]),
            node("Cast", [f"is{k}"], [f"mine{k}"], to=TensorProto.FLOAT),
            node("ReduceSum", [f"mine{k}", "plane"], [f"cells{k}"], keepdims=0),
            node("Gather", ["probs", f"at{k}"], [f"prob{k}"], axis=1),
            node("Mul", [f"prob{k}", f"mine{k}"], [f"won{k}"]),
            node("ReduceSum", [f"won{k}", "plane"], [f"sum{k}"], keepdims=0),
            node("Clip", [f"cells{k}", "one"], [f"least{k}"]),
            node("Div", [f"sum{k}", f"least{k}"], [f"mean{k}"]),
            node("Unsqueeze", [f"cells{k}", "axis1"], [f"area{k}"]),
            node("Unsqueeze", [f"mean{k}", "axis1"], [f"score{k}"]),
        ]
    nodes += [
        node("Concat", ["area1", "area2"], ["class_area_px"], axis=1),
        node("Concat", ["score1", "score2"], ["class_score"], axis=1),
    ]
    value = helper.make_tensor_value_info
    size = [1, SHAPE.height_px, SHAPE.width_px]
    graph = helper.make_graph(
        nodes,
        "patches",
        [value("image", TensorProto.UINT8, [*size, 1])],
        [
            value("class_map", TensorProto.UINT8, size),
            value("class_area_px", TensorProto.FLOAT, [1, 2]),
            value("class_score", TensorProto.FLOAT, [1, 2]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"edgeinspect.kind": "segmenter", "edgeinspect.contract": "1"})
    onnx.checker.check_model(model, full_check=True)
    return model


def _conv(source: str, name: str) -> Any:
    inputs = [source, f"{name}_weight", f"{name}_bias"]
    return helper.make_node("Conv", inputs, [name], name=name, pads=[1] * 4, kernel_shape=[3, 3])


def _first(rng: np.random.Generator) -> np.ndarray:
    weight = rng.normal(0, 0.2, (CHANNELS, 1, 3, 3)).astype(np.float32)
    weight[0], weight[1] = 1 / 9, -1 / 9  # brighter, darker than usual
    return weight


def _bias() -> np.ndarray:
    bias = np.zeros(CHANNELS, np.float32)
    bias[0], bias[1] = -0.62, 0.36
    return bias


def _passing(rng: np.random.Generator) -> np.ndarray:
    weight = rng.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    weight[:2] = 0
    weight[0, 0, 1, 1] = weight[1, 1, 1, 1] = 1.0
    return weight


def _logits() -> np.ndarray:
    weight = np.zeros((3, CHANNELS, 1, 1), np.float32)
    weight[1, 0] = weight[2, 1] = 3.0
    return weight


def add_outlier_channels(
    model: Any, factor: float = 4000.0, channels: tuple[int, ...] = (7, 9)
) -> Any:
    """Return an equivalent model with outlier channels in the tensor that `third` reads."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in made.graph.initializer}
    arrays["second_bias"][list(channels)] = 0.5  # nonzero everywhere
    for channel in channels:
        arrays["second_weight"][channel] *= factor
        arrays["second_bias"][channel] *= factor
        arrays["third_weight"][:, channel] /= factor
    for tensor in made.graph.initializer:
        if tensor.name.startswith(("second", "third")):
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return made


def make_store(root: Path, model: Any, name: str = "patches") -> Path:
    """Install the model as version 1 in a store."""
    thresholds = {each: {"score": 0.5, "area_px": 20.0} for each in CLASSES}
    install(
        root,
        model,
        name=name,
        kind="segmenter",
        shape=SHAPE,
        opset=20,
        output_stride=1,
        classes=list(CLASSES),
        thresholds=thresholds,
    )
    return root


def write_dataset(folder: Path, count: int, seed: int = 1) -> Path:
    """Write a data set with images/, masks/ and index.csv: noise with bright or dark patches."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for number in range(count):
        image = rng.normal(rng.uniform(100, 130), 6, (SHAPE.height_px, SHAPE.width_px))
        mask = np.zeros(image.shape, np.uint8)
        for class_id, level in ((1, 225), (2, 25)):
            if rng.random() < 0.6:
                y, x = rng.integers(1, 18), rng.integers(1, 40)
                tall, wide = rng.integers(5, 12), rng.integers(6, 20)
                image[y : y + tall, x : x + wide] = rng.normal(level, 5, (tall, wide))
                mask[y : y + tall, x : x + wide] = class_id
        name = f"{number:04d}.png"
        cv2.imwrite(str(folder / "images" / name), np.clip(image, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / name), mask)
        areas = [int((mask == class_id).sum()) for class_id in (1, 2)]
        rows.append([name, "test" if number % 2 else "train", *areas])
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "split", *(f"{name}_px" for name in CLASSES)])
        writer.writerows(rows)
    return folder


def random_metrics(count: int, seed: int = 0) -> FrameMetrics:
    """Measurements of frames of which a tenth are suspect."""
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(count) < 0.1, 0.99, 0.001)
    values = np.stack([rng.uniform(60, 160, count), rng.uniform(5, 20, count), score], axis=1)
    return FrameMetrics(tuple(f"{n:064x}" for n in range(count)), values)
