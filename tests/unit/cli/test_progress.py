"""Progress without a terminal: lines with the time, none with --quiet, no escape codes."""

from __future__ import annotations

import math
import re

import click
import pytest

from edgeinspect.cli import _progress
from edgeinspect.cli._progress import QUIET, progress_bar, stage_bars

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def time_ns(self) -> int:
        return round(self.now_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_progress, "time", clock)
    return clock


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    found = captured.err.splitlines()
    assert all(STAMP.match(line) and len(line) <= 80 for line in found)
    return [STAMP.sub("", line) for line in found]


def test_a_line_every_ten_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("inspecting", 100) as update:
        for done in range(1, 101):
            clock.now_s += 0.25
            update(done)
    assert lines(capsys) == [
        "inspecting: 40 of 100 (40 %), 4/s, 15 s left",
        "inspecting: 80 of 100 (80 %), 4/s, 5.0 s left",
        "inspecting: 100 of 100 in 25 s",
    ]


def test_each_stage_ends_with_a_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_bars("gate: ") as report:
        for stage in ("read", "train"):
            for done in range(1, 5):
                clock.now_s += 1
                report(stage, done, 4, 0.5 if stage == "train" else 0.0)
    assert lines(capsys) == [
        "gate: read: 4 of 4 in 4.0 s",
        "gate: train: 4/4 in 4.0 s, loss 0.500",
    ]


def test_a_training_has_a_line_a_minute_and_one_at_each_validation(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_bars() as report:
        report("train", 1000, 13000)  # resumed
        for step in range(1001, 1131):
            clock.now_s += 1
            best = 0.9123 if step >= 1100 else math.nan
            report("train", step, 13000, 1.2345, best, is_due=step == 1100)
    assert lines(capsys) == [
        "train: 1010/13000, loss 1.234, 3.3 h left",
        "train: 1070/13000, loss 1.234, 3.3 h left",
        "train: 1100/13000, loss 1.234, best 0.912, 3.3 h left",
        "train: 1130/13000 in 3 min, loss 1.234, best 0.912",
    ]


def test_the_time_left_of_a_resumed_training_is_that_of_its_own_steps(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_bars() as report:
        report("train", 900, 1000)
        clock.now_s += 200  # the first step is slow
        report("train", 901, 1000, 0.5)
        for step in range(902, 910):
            clock.now_s += 30
            report("train", step, 1000, 0.5)
    assert lines(capsys)[0] == "train: 904/1000, loss 0.500, 48 min left"


def test_a_long_stage_name_is_shortened_to_the_width(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_bars("mobilenetv3_small of a long name ") as report:
        for done in range(1, 8):
            clock.now_s += 20
            report("train", done, 99, 0.5, 0.5)
    assert "…" in lines(capsys)[0]


def test_a_line_that_is_too_long_lacks_the_rate_before_the_name(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_bars() as report:
        report("frozen features", 0, 1787)
        clock.now_s += 12
        report("frozen features", 1233, 1787)
    assert lines(capsys)[0] == "frozen features: 1233 of 1787 (68 %), 5.4 s left"


def test_an_unknown_total_and_a_short_task(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar("replaying") as update:
        update(0)
        clock.now_s += 20
        update(60)
    assert lines(capsys) == ["replaying: 60, 3/s", "replaying: 60 in 20 s"]
    with progress_bar("reading", 3) as update:
        update(3)
    assert lines(capsys) == []


def test_quiet_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @QUIET
    def work() -> None:
        with progress_bar("inspecting", 2) as update:
            clock.now_s += 60
            update(1)

    work(["--quiet"], standalone_mode=False)
    assert lines(capsys) == []
    work([], standalone_mode=False)
    assert len(lines(capsys)) == 2
