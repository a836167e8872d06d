"""Workers at one queue: a frame wakes one of them, and only an idle line is kept warm."""

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
    """Workers whose inspector only records what it gets."""

    def __init__(self, count: int, keep_warm_ns: int) -> None:
        self.queue = FrameQueue(1)
        self.inspected: list[int] = []
        self.warmed = 0
        closer: Any = SimpleNamespace(spool=SimpleNamespace(is_open=lambda seq: True))
        inspector: Any = SimpleNamespace(inspect=self._inspect, warm_up=self._warm_up)
        self.workers = [
            InspectionWorker(
                frame_queue=self.queue,
                closer=closer,
                inspector=inspector,
                keep_warm_ns=keep_warm_ns,
            )
            for _ in range(count)
        ]
        self.threads = [threading.Thread(target=each.run) for each in self.workers]
        for thread in self.threads:
            thread.start()

    def _inspect(self, frame: OpenFrame, _closer: object) -> None:
        self.inspected.append(frame.seq)

    def _warm_up(self, _rounds: int) -> None:
        self.warmed += 1

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.queue.wake_workers(len(self.workers))
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()
        self.queue.close()

    @property
    def progress_count(self) -> int:
        return sum(worker.progress_count for worker in self.workers)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_worker_that_is_not_needed_stays_asleep(workers: int) -> None:
    pool = WorkerPool(workers, keep_warm_ns=60_000 * NS_PER_MS)
    for seq in range(1, 201):
        pool.queue.put(frame(seq))
        time.sleep(0.001)
    end = time.monotonic() + 10
    while len(pool.inspected) < 200:
        assert time.monotonic() < end
        time.sleep(0.01)
    iterations = pool.progress_count
    pool.stop()
    assert sorted(pool.inspected) == list(range(1, 201))
    assert pool.warmed == 0, "a warm-up while a frame waits"
    assert iterations <= 300, "every worker was woken for every frame"


def test_two_frames_at_once_wake_two_workers() -> None:
    pool = WorkerPool(2, keep_warm_ns=0)
    both = threading.Barrier(2)
    pool.workers[0].inspector = pool.workers[1].inspector = SimpleNamespace(  # type: ignore[assignment]
        inspect=lambda frame, closer: both.wait(5) and None
    )
    pool.queue.put(frame(1))
    pool.queue.put(frame(2))
    pool.stop()
    assert not both.broken, "one worker had both"


def test_an_idle_line_is_kept_warm() -> None:
    pool = WorkerPool(2, keep_warm_ns=20 * NS_PER_MS)
    end = time.monotonic() + 10
    while pool.warmed < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    pool.stop()
    assert pool.inspected == []
