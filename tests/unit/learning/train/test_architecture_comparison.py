"""The comparison of gates on graphs whose answers are known; multiply-adds by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.library("torch")
onnx = needs.library("onnx")
needs.library("onnxruntime")

from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeinspect.domain.model import ModelKind
from edgeinspect.errors import ModelError, UsageError
from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.onnx_graphs.flops import count_flops
from edgeinspect.learning.onnx_graphs.manifest import (
    ModelCard,
    graph_metadata,
    set_metadata,
    write_manifest,
)
from edgeinspect.learning.train.architecture_comparison import (
    compare_architectures,
    youden_threshold,
)
from tests import graphs

LEVELS = (10, 40, 90, 120, 150, 200, 220, 250)
"""Gray level of each image; the gate of `graphs` returns level / 255."""
DEFECTIVE = (False, False, False, True, False, True, True, True)


def make_images() -> ImageArrays:
    images = np.stack([np.full(graphs.SHAPE.dims, level, np.uint8) for level in LEVELS])
    masks = np.zeros(images.shape[:3], np.uint8)
    return ImageArrays(
        images=images,
        masks=masks,
        defective=np.array(DEFECTIVE),
        classes=("defect",),
        names=tuple(map(str, LEVELS)),
    )


def version(root: Path, name: str, training: dict[str, Any]) -> Path:
    folder = root / name / "1"
    folder.mkdir(parents=True)
    card = ModelCard(name, 1, ("defect",), "r", {}, training, {}, "2026-01-01")
    model = graphs.gate()
    metadata = graph_metadata(ModelKind.GATE, card, "mono", 1)
    set_metadata(model, metadata)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder, folder / "model.onnx", card, metadata, 20, graphs.SHAPE.dims)
    return folder


def test_metrics_are_those_of_the_graph(tmp_path: Path) -> None:
    comparison = compare_architectures(
        ["a", "b"],
        lambda name: version(tmp_path, name, {"parameters": 42}),
        make_images(),
        make_images(),
        tmp_path / "out",
        backend="ort",
        runs=3,
    )
    first = comparison.rows[0].fp32
    # Between 90 and 120 one good image (150) is rejected; between 150 and 200 one escapes.
    assert (first.accuracy.hits, first.escape.hits + first.overkill.hits) == (7, 1)
    assert first.auc == pytest.approx(15 / 16, abs=1e-4)
    assert comparison.rows[0].parameters == 42
    assert first.latency_ms > 0
    document = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [row["name"] for row in document["rows"]] == ["a", "b"]
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| a | 87.5% (52.9% to 97.8%) |" in table
    assert "8 test images, 4 of them defective" in table


def test_a_rejected_calibration_is_a_note(tmp_path: Path) -> None:
    def quantize(folder: Path) -> Path:
        if folder.parent.name == "a":
            raise ModelError("loses too much")
        return folder

    comparison = compare_architectures(
        ["a", "b"],
        lambda name: version(tmp_path, name, {}),
        make_images(),
        make_images(),
        tmp_path / "out",
        quantize=quantize,
        backend="ort",
        runs=1,
    )
    assert [row.int8 is None for row in comparison.rows] == [True, False]
    assert "- a: no INT8: loses too much" in comparison.to_markdown()
    assert comparison.rows[1].int8 is not None
    assert comparison.rows[1].int8.accuracy == comparison.rows[1].fp32.accuracy


def test_finished_networks_are_kept_after_a_failure(tmp_path: Path) -> None:
    def train(name: str) -> Path:
        if name == "b":
            raise ModelError("NaN")
        return version(tmp_path, name, {})

    with pytest.raises(ModelError, match="NaN"):
        compare_architectures(
            ["a", "b"], train, make_images(), make_images(), tmp_path / "out", backend="ort", runs=1
        )
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["a"]


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_duplicate_names_are_rejected(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="each once"):
        compare_architectures(names, lambda name: tmp_path, make_images(), make_images(), tmp_path)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_has_a_higher_youden_index(rows: list[tuple[int, bool]]) -> None:
    probs = np.array([level / 9 for level, _bad in rows])
    bad = np.array([is_bad for _level, is_bad in rows])
    if bad.all() or not bad.any():
        assert youden_threshold(probs, bad) == 0.5
        return

    def youden_index(limit: float) -> float:
        return float((probs[bad] >= limit).mean() - (probs[~bad] >= limit).mean())

    best = youden_index(youden_threshold(probs, bad)) + 1e-9  # rounding
    assert all(best >= youden_index(level) for level in np.unique(probs)[1:])


def test_multiply_adds_by_hand(tmp_path: Path) -> None:
    weights = {"w": (8, 3, 3, 3), "d": (8, 1, 3, 3), "t": (8, 4, 2, 2), "g": (5, 4 * 16 * 24)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["a", "d"], ["b"], pads=[1] * 4, group=8),
        helper.make_node("ConvTranspose", ["b", "t"], ["c"], strides=[2, 2]),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()],
    )
    onnx.save_model(helper.make_model(graph), str(tmp_path / "m.onnx"))
    cells = 8 * 12
    by_hand = cells * 8 * 27 + cells * 8 * 9 + cells * 8 * 4 * 4 + 5 * 4 * 16 * 24
    found = count_flops(tmp_path / "m.onnx")
    assert found.macs == by_hand
    assert found.parameters == sum(int(np.prod(s)) for s in weights.values())


def test_graphs_that_cannot_be_counted(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="cannot be counted"):
        count_flops(tmp_path / "m.onnx")
