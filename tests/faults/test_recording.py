"""The short form of benchmarks/recording.py, whose long form records 2,000 frames at 50 Hz."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tests import needs

needs.library("mcap")
needs.library("openvino")


def test_every_recorded_verdict_is_reproduced_after_kill_9(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "recording.py"
    spec = importlib.util.spec_from_file_location("recording_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.campaign(tmp_path, frames=150, rate_hz=50, budget_ms=250, seed=2)
    assert found["different"] == 0, found
    assert found["equal"] == found["compared"], found
    assert found["pictures_that_differ_from_the_camera"] == 0, found
    assert found["recorded"] == found["verdicts_as_in_the_ledger"], found
    assert found["contiguous"], found
    # How many frames have their image depends on the machine; each without one has a reason.
    assert found["compared"] + sum(found["not_compared"].values()) == found["recorded"], found
    assert 100 <= found["recorded"] <= found["published"], found
    assert found["compared"] >= 60, found
    assert len(found["cuts"]) == 1, found
