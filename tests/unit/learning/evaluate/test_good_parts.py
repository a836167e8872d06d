"""Evaluation of a good-parts model, alone and beside a gate."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain import Decision, Reason
from edgeinspect.learning.evaluate import build_inspector, load_engine
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import write_dataset
from tests.unit.learning.reporting.html_checker import check_document

needs.library("onnxruntime")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    graphs.install_good_parts(root, thresholds={"reject": 0.9, "area_px": 40})
    limits = {"suspect": 0.45, "reject": 0.99, "degraded": 0.49}
    graphs.install(root, graphs.gate(), thresholds=limits)
    monkeypatch.setenv("EDGEINSPECT_STORE", str(root))
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mixed", ["good"] * 8 + ["dark"] * 3 + ["bright"] * 5)


def evaluate(data: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert main(["evaluate", *more, "--data", str(data), "--json-file", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_alone(data: Path, tmp_path: Path) -> None:
    html, table = tmp_path / "a.html", tmp_path / "a.csv"
    found = evaluate(
        data, tmp_path, "tiny-unknown", "--report", str(html), "--per-image", str(table)
    )
    assert found["models"][0]["kind"] == "unknown"
    assert found["ranked_by"] == "the good-parts model's score"
    assert found["thresholds"]["unknown"] == {"reject_at": 0.9, "area_px": 40}
    decisions = found["decisions"]
    assert (decisions["defective_rejected"], decisions["defective_passed"]) == (5, 3)
    assert decisions["sound_rejected"] == 0
    assert found["classes"] == ["unknown"]
    # Every defect of the set counts as unknown; the dark ones are not found.
    bright = [row for row in found["overlap"]["classes"] if row["name"] == "unknown"]
    assert 0.4 < bright[0]["iou"] < 0.8
    assert found["ranking"]["auc"] > 0.6
    check_document(html.read_text())
    assert "good-parts model, reject_at" in html.read_text()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["unknown_prob"]) > 0.9
    assert rows[-1]["reject_class"] == "unknown"


def test_beside_a_gate(data: Path, tmp_path: Path) -> None:
    found = evaluate(data, tmp_path, "tiny-unknown", "--gate", "tiny-gate")
    assert [model["kind"] for model in found["models"]] == ["gate", "unknown"]
    assert found["decisions"]["defective_rejected"] >= 5


def test_it_decides_as_the_line_does(store: Path) -> None:
    inspector = build_inspector(load_engine("tiny-unknown", "ort", store=ModelStore(store)))
    image = np.full(graphs.SHAPE.dims, 120, np.uint8)
    clean = inspector.inspect(image)
    assert (clean.assessment.decision, clean.assessment.reason) == (Decision.PASS, Reason.CLEAN)
    image[4:10, 4:10] = 240  # 3x3 cells: 36 px, below 40
    small = inspector.inspect(image)
    assert small.assessment.decision is Decision.PASS
    assert small.fatal_map is not None
    assert not small.fatal_map.any()
    image[4:12, 4:12] = 240
    found = inspector.inspect(image)
    assert found.assessment.reject_classes == ("unknown",)
    assert found.fatal_map is not None
    assert found.fatal_map.sum() == 16
    assert found.score == pytest.approx(240 / 255)


def test_thresholds_that_are_missing_are_noted(tmp_path: Path) -> None:
    graphs.install_good_parts(tmp_path / "other")
    engine = load_engine("tiny-unknown", "ort", store=ModelStore(tmp_path / "other"))
    assert "proposes no threshold: 0.5" in build_inspector(engine).notes[0]


def test_explain_draws_its_map(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "drawn"
    picture = data / "images" / "p015.png"
    assert main(["explain", "tiny-unknown", str(picture), "--out", str(out)]) == 0
    assert (out / "p015.png").is_file()
    explained = json.loads((out / "explain.json").read_text())
    assert explained["pictures"][0]["regions"][0]["class"] == "unknown"
