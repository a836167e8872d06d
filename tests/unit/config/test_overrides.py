"""`--set KEY=VALUE`: checked like the file, and never a way around it."""

from __future__ import annotations

import pytest

from edgeinspect.config.loader import parse_config
from edgeinspect.errors import ConfigError, OverrideError, exit_code_of

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
        ("budget_ms", "--set: 1 fault\n  budget_ms: must be KEY=VALUE, as budget_ms=200"),
        ("=3", "=3: must be KEY=VALUE"),
        ("a..b=3", "a..b=3: must be KEY=VALUE"),
        ("line.x.y=3", "not a table"),
        ("budget_ms=-1", "budget_ms"),
        ("budgetms=10", "budgetms"),
        ("budget_ms=[", "--set: 1 fault\n  budget_ms: is not YAML"),
        ("budget_ms=abc", "1 fault\n  budget_ms: must be"),
        ("decide.new.x=3", "1 fault\n  decide.new: unknown key"),
        ("budget_ms=1\nline: other", "budget_ms|form|table"),
        ("led=1", "--set: 1 fault\n  led: unknown key; did you mean `ledger`"),
        ("schema=2", "--set: 1 fault\n  schema: must be 1"),
        ("decide.gate.suspect_at=0.95", "--set: 1 fault\n  decide.gate.suspect_at: must be"),
    ],
)
def test_a_bad_override_is_wrong_usage_not_a_fault_of_the_file(words: str, problem: str) -> None:
    with pytest.raises(OverrideError, match=problem) as refused:
        parse_config(LINE, overrides=[words])
    assert exit_code_of(refused.value) == 64


def test_faults_of_file_and_overrides_are_told_apart() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(LINE.replace("budget_ms", "budgt_ms"), "a", ["led=1"])
    assert exit_code_of(refused.value) == 78
    assert str(refused.value) == (
        "a: 3 faults\n"
        "  --set led: unknown key; did you mean `ledger`? (found 1)\n"
        "  line 1: budget_ms: required: a number above 0, at most 600000\n"
        "  line 3: budgt_ms: unknown key; did you mean `budget_ms`? (found 150)"
    )
    repaired = parse_config(LINE.replace("150", "-1"), overrides=["budget_ms=80"])
    assert repaired.config.budget_ms == 80
