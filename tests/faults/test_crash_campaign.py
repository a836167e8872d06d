"""The short form of benchmarks/crash_campaign.py, whose long form kills 200 times."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_every_frame_is_applied_once_and_in_order_across_kill_9(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "crash_campaign.py"
    spec = importlib.util.spec_from_file_location("crash_campaign", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.campaign(tmp_path, kills=12, rate_hz=200, seed=3)
    assert found["ledger_holds"], found
    assert found["captured"] > 500, found
    for name in ("applied_twice", "out_of_order", "gaps", "unaccounted"):
        assert found[name] == 0, found
    assert not found["lost_events"], found
