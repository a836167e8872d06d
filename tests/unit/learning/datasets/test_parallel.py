"""Parallel results are in order, and slow items are logged."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from edgeinspect.learning.datasets import parallel
from edgeinspect.learning.datasets.parallel import map_in_threads


def test_results_are_in_order() -> None:
    assert list(map_in_threads(lambda number: number * number, range(100))) == [
        number * number for number in range(100)
    ]


def test_a_slow_read_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parallel, "SLOW_READ_S", 0.05)
    answers = threading.Event()
    stuck = Path("share/b\x1b.png")

    def work(path: Path) -> str:
        if path == stuck:
            assert answers.wait(60)
        return path.name

    results = map_in_threads(work, [Path("share/a.png"), stuck, Path("share/c.png")])
    assert next(results) == "a.png"
    waiting = threading.Thread(target=lambda: rest.extend(results))
    rest: list[str] = []
    waiting.start()
    while not caplog.records:
        assert waiting.is_alive()
        time.sleep(0.01)
    answers.set()
    waiting.join(60)
    assert rest == ["b\x1b.png", "c.png"]
    (sample,) = caplog.records
    assert sample.getMessage().startswith("share/b\\x1B.png: not read after")
