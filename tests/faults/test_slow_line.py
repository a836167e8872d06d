"""The short form of benchmarks/slow_line.py, whose long form has ten rounds of 14 kills."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def test_no_bad_part_passes_a_gateway_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "slow_line.py"
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location("slow_line", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "slow_line", module)
    spec.loader.exec_module(module)
    found = module.campaign(tmp_path, kills=3, seed=5, every_s=(0.4, 0.6), belt_s=1.5, stop_s=1.0)
    logs = "".join((tmp_path / f"{role}.log").read_text() for role in ("line", "gateway"))
    for name in module.MUST_BE_EMPTY:
        assert found[name] == [], (found, logs)
    assert found["plc_failure"] == "''", logs
    assert found["ledger_holds"], (found, logs)
    assert found["ids_taken_twice"] == 0, (found, logs)
    assert found["frames_of_no_part"] == 0, (found, logs)
    # A busy machine makes triggers too old, and they are refused; some are not.
    assert found["rejected_in_ledger"] > 0, (found, logs)
    assert found["triggered"] > found["refused"], (found, logs)
