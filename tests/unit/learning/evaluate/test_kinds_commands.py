"""`evaluate` of a gate that tells kinds apart, and `--per-image`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import write_dataset
from tests.unit.learning.reporting.html_checker import check_document

needs.library("onnxruntime")
KINDS = ("crack", "dent", "stain")
MEANS = dict(zip(("good", *KINDS), graphs.kind_centres(3, "defects"), strict=True))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    limits = {"suspect": 0.3, "reject": 0.95, "degraded": 0.5}
    graphs.install_kinds_gate(root, kinds=KINDS, thresholds=limits)
    graphs.install_kinds_gate(root, kinds=KINDS, name="only-kinds", decides="kinds")
    scores = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}
    graphs.install(root, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=scores)
    graphs.install_kinds_gate(root, kinds=graphs.CLASSES, name="two-kinds", thresholds=limits)
    monkeypatch.setenv("EDGEINSPECT_STORE", str(root))
    return root


def write_folders(root: Path, names: dict[str, list[str]]) -> Path:
    """A folder per class; each image has the mean of a class, which may be another one."""
    rng = np.random.default_rng(2)
    for folder, looks in names.items():
        (root / folder).mkdir(parents=True)
        for index, look in enumerate(looks):
            image = MEANS[look] + rng.integers(-5, 6, (32, 48))
            cv2.imwrite(str(root / folder / f"{folder}{index}.png"), image.astype(np.uint8))
    return root


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    names = {kind: [kind] * 6 for kind in ("good", *KINDS)}
    names["dent"][0] = "stain"
    names["stain"][1] = "good"
    return write_folders(tmp_path / "parts", names)


def evaluate(parts: Path, tmp_path: Path, model: str, *more: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    args = ["evaluate", model, "--data", str(parts), "--split", "all", "--json-file", str(out)]
    assert main([*args, *more]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_the_classification_in_table_json_and_report(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "out.html"
    found = evaluate(parts, tmp_path, "tiny-kinds", "--report", str(html))
    kinds = found["classification"]
    assert kinds["names"] == ["good", *KINDS]
    assert kinds["confusion"] == [[6, 0, 0, 0], [0, 6, 0, 0], [0, 0, 5, 1], [1, 0, 0, 5]]
    assert kinds["balanced_accuracy"] == pytest.approx((1 + 1 + 5 / 6 + 5 / 6) / 4)
    assert kinds["balanced_accuracy_low"] < kinds["balanced_accuracy"]
    assert kinds["classes"][2]["recall"]["hits"] == 5
    assert kinds["classes"][3]["precision"]["total"] == 6
    assert found["decides"] == "defects"
    assert found["decisions"]["defective_passed"] == 1
    assert found["ranking"]["average_precision"] > 0.9
    out = capsys.readouterr().out
    for words in ("average precision", "balanced accuracy of the kinds", "true \\ predicted"):
        assert words in out
    check_document(html.read_text())
    for words in ("Kinds of defects", "balanced accuracy", "average precision"):
        assert words in html.read_text()


def test_a_model_without_good_parts_has_its_classification_alone(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "out.html"
    found = evaluate(
        parts, tmp_path, "only-kinds", "--report", str(html), "--per-image", str(tmp_path / "a.csv")
    )
    assert found["decides"] == "kinds"
    assert (found["decisions"], found["ranking"], found["reliability"]) == (None, None, None)
    assert found["classification"]["names"] == list(KINDS)
    assert found["classification"]["good_left_out"] == 6
    assert any("cannot tell good parts from defective ones" in note for note in found["notes"])
    out = " ".join(capsys.readouterr().out.split())
    assert "cannot tell good parts from defective ones" in out
    assert "escape rate" not in out
    check_document(html.read_text())
    assert "escape rate" not in html.read_text().partition("<h2>Terms")[0]


def test_other_names_of_classes(parts: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    parts.rename(renamed)
    (renamed / "dent").rename(renamed / "burr")
    args = ["--data", str(renamed), "--split", "all"]
    assert main(["evaluate", "tiny-kinds", *args]) == 65
    for old, new in (("crack", "scratch"), ("stain", "rust")):
        (renamed / old).rename(renamed / new)
    found = evaluate(renamed, tmp_path, "tiny-kinds")
    assert found["classification"] is None
    assert any("names none of the gate's kinds" in note for note in found["notes"])
    assert main(["evaluate", "only-kinds", *args]) == 65


def test_kinds_are_taken_from_masks_too(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "masks", ["good"] * 4 + ["dark"] * 4 + ["bright"] * 4)
    found = evaluate(data, tmp_path, "two-kinds")
    matrix = np.array(found["classification"]["confusion"])
    assert found["classification"]["names"] == ["good", *graphs.CLASSES]
    assert matrix.sum(axis=1).tolist() == [4, 4, 4]
    both = evaluate(data, tmp_path, "tiny-seg", "--gate", "two-kinds")
    assert both["classification"]["confusion"] == found["classification"]["confusion"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_of_images(parts: Path, tmp_path: Path) -> None:
    (parts / "crack" / "crack0.png").rename(parts / "crack" / "=1+1.png")
    table = tmp_path / "new" / "images.csv"
    found = evaluate(parts, tmp_path, "tiny-kinds", "--per-image", str(table))
    rows = rows_of(table)
    assert len(rows) == found["pictures"] == 24
    assert sum(row["verdict"] == "REJECT" for row in rows) == 17
    by_name = {Path(row["image"]).name: row for row in rows}
    dent = by_name["dent0.png"]
    assert (dent["truth"], dent["true_classes"], dent["predicted_class"]) == (
        "defective",
        "dent",
        "stain",
    )
    assert (dent["reason"], dent["reject_class"], dent["reject_code"]) == ("gate", "stain", "3")
    assert float(dent["class_prob.stain"]) > 0.9
    total = sum(float(dent[f"class_prob.{kind}"]) for kind in KINDS)
    assert float(dent["defect_prob"]) == pytest.approx(total, abs=1e-4)
    good = by_name["good0.png"]
    assert (good["verdict"], good["predicted_class"], good["reject_code"]) == ("PASS", "good", "")
    assert not any(row["image"].startswith("=") for row in rows)
    assert main(["evaluate", "tiny-kinds", "--data", str(parts), "--per-image", "/proc/x.csv"]) > 63


def test_the_table_has_the_segmenters_scores(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "masks", ["good"] * 2 + ["dark"] * 2)
    table = tmp_path / "images.csv"
    evaluate(data, tmp_path, "tiny-seg", "--per-image", str(table))
    row = rows_of(table)[-1]
    assert (row["split"], row["true_classes"], row["verdict"]) == ("test", "dark", "REJECT")
    assert float(row["class_score.dark"]) > 0
    assert float(row["largest_region_px.dark"]) >= 40
    assert row["largest_region_px.bright"] == "0"
    assert "defect_prob" not in row
