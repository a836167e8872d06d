"""`edgeinspect bench` as it is called: both loops over the shipped models, few frames."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from tests import needs


@pytest.mark.slow
def test_a_complete_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs.library("openvino")
    figures, drawing = tmp_path / "bench.json", tmp_path / "bench.svg"
    words = ["bench", "--frames", "20", "--rounds", "1", "--budget-ms", "60000"]
    assert main([*words, "--json-file", str(figures), "--plot", str(drawing)]) == 0
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["frame"] == "256x1600x1"
    assert found["copied_bytes"] == 256 * 1600
    assert found["settings"][0][1] >= found["settings"][-1][1] > 0
    for stage in ("quiet", "busy"):
        summary = found[stage]["summary"]
        assert summary["frames"] == 20
        missed = summary["misses"]
        assert 0 <= missed < 20  # how many is a matter of what else this PC does
        assert 0 < summary["latency_us"]["p50"] <= summary["latency_us"]["max"]
        clean, segmented = summary["overhead_clean_us"], summary["overhead_segmented_us"]
        assert clean["frames"] + segmented["frames"] == 20 - missed
    assert drawing.read_text(encoding="utf-8").startswith("<svg xmlns=")
    printed = capsys.readouterr().out
    assert "of the engines'" in printed
    assert f"{found['busy']['summary']['misses']} of 20 missed" in printed


def test_a_configured_line_with_its_own_images(tmp_path: Path) -> None:
    needs.library("openvino")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(90, 130, (128, 800), np.uint8)
        cv2.imwrite(str(pictures / f"{index}.png"), noise)
    figures = tmp_path / "bench.json"
    config = Path(__file__).parents[4] / "examples" / "strip.yaml"
    words = ["bench", str(config), "--images", str(pictures), "--frames", "20", "--rounds", "1"]
    more = ["--as-configured", "--set", "budget_ms=700", "--json-file", str(figures)]
    more += ["--set", f"ledger.folder={tmp_path}/ledger"]
    assert main([*words, *more]) == 0
    assert not (tmp_path / "ledger").exists(), "what bench inspects is no evidence of the line"
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert found["throughput"]["setting"] == {"workers": 1, "threads": None}
    assert found["budget_us"] == 700_000


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--images", "/nowhere"], 65),
        (["--json-file", "/nowhere/x.json"], 73),
        (["--options", "--budget-search"], 64),
        (["--load", "1.5"], 64),
        (["/nowhere.yaml"], 78),
    ],
)
def test_wrong_usage_has_its_exit_code(words: list[str], code: int) -> None:
    assert main(["bench", *words]) == code
