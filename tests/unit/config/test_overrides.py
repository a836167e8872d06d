"""`--set KEY=VALUE`: checked like the file, and never a way around it."""

from __future__ import annotations

import pytest

from edgeinspect.config.loader import parse_config
from edgeinspect.errors import ConfigError

LINE = """\
schema: 1
line: demo
budget_ms: 150
cameras: {top: {type: folder, path: /pictures}}
engines: {gate: {type: ov, model: some}}
optics: {mm_per_px_x: 0.5, mm_per_px_y: 0.5}
decide:
  gate: {suspect_at: 0.2, reject_at: 0.9, degraded_reject_at: 0.5, reject_code: 9}
"""


def test_values_are_replaced_and_tables_made() -> None:
    loaded = parse_config(
        LINE,
        overrides=[
            "budget_ms=80",
            "cameras.top.path=/other",
            "capture.health.dark_level=7",
            "publish={mask: true}",
        ],
    )
    assert loaded.config.budget_ms == 80
    assert loaded.cameras["top"].options.path == "/other"
    assert loaded.config.capture.health.dark_level == 7
    assert loaded.config.publish.mask
    assert loaded.hash != parse_config(LINE).hash


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("budget_ms", "not of the form"),
        ("=3", "not of the form"),
        ("a..b=3", "not of the form"),
        ("line.x.y=3", "not a table"),
        ("budget_ms=-1", "budget_ms"),
        ("budgetms=10", "budgetms"),
        ("budget_ms=[", "--set: 1 fault\n  budget_ms: is not YAML"),
        ("budget_ms=abc", "1 fault\n  budget_ms: must be"),
        ("decide.new.x=3", "1 fault\n  decide.new: unknown key"),
        ("budget_ms=1\nline: other", "budget_ms|form|table"),
    ],
)
def test_bad_overrides_are_faults(words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_config(LINE, overrides=[words])
