"""Workers at one inbox: one frame wakes one of them, and only a line that idles is kept warm."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.pipeline.inspection.worker import InspectionWorker
from edgeinspect.pipeline.verdicts.open_frames import FrameQueue, OpenFrame
from edgeinspect.storage.spool.format import OpenRecord


def frame(seq: int) -> OpenFrame:
    return OpenFrame(seq, 0, OpenRecord("top", seq, seq, 0, 0, 0), 0, seq, "host")


class WorkerPool:
    """Inspectors whose judge only counts."""

    def __init__(self, count: int, keep_warm_ns: int) -> None:
        self.inbox = FrameQueue(1)
        self.judged: list[int] = []
        self.warmed = 0
        spool: Any = SimpleNamespace(is_open=lambda seq: True)
        judge: Any = SimpleNamespace(judge=self._judge, warm_up=self._warm)
        closer: Any = None
        self.inspectors = [
            InspectionWorker(
                frame_queue=self.inbox,
                closer=closer,
                spool=spool,
                inspector=judge,
                keep_warm_ns=keep_warm_ns,
            )
            for _ in range(count)
        ]
        self.threads = [threading.Thread(target=each.run) for each in self.inspectors]
        for thread in self.threads:
            thread.start()

    def _judge(self, frame: OpenFrame, _closer: object) -> None:
        self.judged.append(frame.seq)

    def _warm(self, _rounds: int) -> None:
        self.warmed += 1

    def stop(self) -> None:
        for inspector in self.inspectors:
            inspector.stop()
        self.inbox.wake_workers(len(self.inspectors))
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()
        self.inbox.close()

    @property
    def turns(self) -> int:
        return sum(inspector.progress_count for inspector in self.inspectors)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_that_is_not_needed_sleeps_on(workers: int) -> None:
    crew = WorkerPool(workers, keep_warm_ns=60_000 * NS_PER_MS)
    for seq in range(1, 201):
        crew.inbox.put(frame(seq))
        time.sleep(0.001)
    end = time.monotonic() + 10
    while len(crew.judged) < 200:
        assert time.monotonic() < end
        time.sleep(0.01)
    turns = crew.turns
    crew.stop()
    assert sorted(crew.judged) == list(range(1, 201))
    assert crew.warmed == 0, "an inference in vain, beside a frame that waits"
    assert turns <= 300, "woken in vain: each of them, for each frame"


def test_frames_at_once_wake_as_many_workers() -> None:
    crew = WorkerPool(2, keep_warm_ns=0)
    both = threading.Barrier(2)
    crew.inspectors[0].inspector = crew.inspectors[1].inspector = SimpleNamespace(  # type: ignore[assignment]
        judge=lambda frame, closer: both.wait(5) and None
    )
    crew.inbox.put(frame(1))
    crew.inbox.put(frame(2))
    crew.stop()
    assert not both.broken, "one worker had both"


def test_an_idle_line_is_kept_warm() -> None:
    crew = WorkerPool(2, keep_warm_ns=20 * NS_PER_MS)
    end = time.monotonic() + 10
    while crew.warmed < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    crew.stop()
    assert crew.judged == []
