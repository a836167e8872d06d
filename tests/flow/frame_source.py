"""A daemon without cameras: the real spool, ledger, closer, publisher and replay, scripted.

In a test's own process it is `FakeLine`; as a process of its own, which can be stopped and
killed, it is `python -m tests.flow.frame_source`, controlled over its standard input.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import zmq

from edgeinspect.domain.clock import NS_PER_MS, SystemClock
from edgeinspect.domain.verdict import Assessment, Decision, Reason, Verdict
from edgeinspect.errors import UsageError
from edgeinspect.pipeline.publishing.publisher import Publisher, PublisherSettings
from edgeinspect.pipeline.publishing.replay_server import ReplayServer, RequestHandlers
from edgeinspect.pipeline.verdicts.closer import Provenance, VerdictCloser
from edgeinspect.pipeline.verdicts.open_frames import OpenFrame
from edgeinspect.storage.ledger.database import read_tail
from edgeinspect.storage.ledger.query import read_body
from edgeinspect.storage.ledger.verification import open_ledger, verify_ledger
from edgeinspect.storage.ledger.writer import LedgerWriter
from edgeinspect.storage.spool.format import OpenRecord, scan_spool
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system.log import configure
from edgeinspect.wire.messages import decode_verdict
from edgeinspect.wire.requests import TriggerCount

CONFIG_HASH = "00c0ffee1234"
SLOTS = 4_096
ASSESSMENTS = (
    Assessment(Decision.PASS, Reason.CLEAN),
    Assessment(Decision.REJECT, Reason.DEFECT, severity=7, reject_code=12),
    Assessment(Decision.PASS, Reason.BELOW_THRESHOLDS, degraded=True),
    Assessment(Decision.NO_VERDICT, Reason.DEADLINE),
    Assessment(Decision.REJECT, Reason.GATE, severity=3, reject_code=99),
)


class FakeLine:
    """One line `press` with one camera `top`; `close_frame` is called by one thread."""

    def __init__(
        self,
        folder: Path,
        *,
        verdicts: str = "tcp://127.0.0.1:*",
        replay: str = "tcp://127.0.0.1:*",
        heartbeat_ms: int = 50,
        slots: int = SLOTS,
    ) -> None:
        clock = self.clock = SystemClock()
        self.spool = Spool(folder / "press.spool", line="press", slots=slots, utc_ns=clock.utc_ns())
        self.ledger = LedgerWriter(
            folder / "press.ledger.sqlite",
            spool=self.spool,
            late=deque(),
            clock=clock,
            keep_days=1,
            max_mib=1000,
            period_s=0.05,
        )
        self.ledger.begin_epoch(CONFIG_HASH, None, None)
        self.inspecting = True
        self.alarm = ""
        self.triggers: list[object] = []
        self.counts: list[TriggerCount] = []
        self._contexts: tuple[zmq.Context[zmq.Socket[bytes]], ...] = (zmq.Context(), zmq.Context())
        provenance = Provenance("press", ("top",), CONFIG_HASH, 100_000, None, None)
        self.closer = VerdictCloser(
            self.spool, clock, provenance, lambda: self.publisher.try_send()
        )
        self.publisher = Publisher(
            self._contexts[0],
            PublisherSettings(
                "press", verdicts, heartbeat_ns=heartbeat_ms * NS_PER_MS, high_water_mark=10_000
            ),
            self.closer,
            clock,
            check_alarms=lambda: (self.inspecting, self.alarm),
        )
        self.replay_server = ReplayServer(
            self._contexts[1],
            replay,
            self.spool,
            RequestHandlers(
                self._trigger, lambda camera, image: None, add_trigger_count=self.counts.append
            ),
            clock,
        )
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self.publisher.run, self.replay_server.run, self.ledger.run)
        ]
        for thread in self._threads:
            thread.start()

    def _trigger(self, camera: str, part: object) -> None:
        if camera != "top":
            raise UsageError(f"there is no camera '{camera}'")
        self.triggers.append(part)

    def close_frame(
        self, assessment: Assessment, *, travel_ms: int = 60_000, part: bool = True
    ) -> int:
        """Open one frame and close it with an assessment; return its seq."""
        clock, number = self.clock, self.spool.last_seq + 1
        utc_ns, now_ns = clock.utc_ns(), clock.now_ns()
        record = OpenRecord(
            "top",
            number,
            number,
            utc_ns,
            utc_ns + 100 * NS_PER_MS,
            utc_ns + travel_ms * NS_PER_MS,
            encoder_count=10 * number,
            act_by_encoder=10 * number + 4_000,
            part_id=f"plate-{number}" if part else None,
        )
        seq = self.spool.open(record)
        self.closer.counters.count_captured()
        deadline_ns = now_ns + 100 * NS_PER_MS
        frame = OpenFrame(seq, 0, record, now_ns, deadline_ns, "host")
        assert self.closer.close(frame, assessment)
        return seq

    def close_frames(
        self, count: int, rate_hz: float, before: Callable[[int], None] = lambda index: None
    ) -> None:
        """`count` frames of every kind, evenly in time."""
        started = time.monotonic()
        for index in range(count):
            before(index)
            time.sleep(max(0.0, started + index / rate_hz - time.monotonic()))
            self.close_frame(ASSESSMENTS[index % len(ASSESSMENTS)])

    def close(self) -> None:
        self.publisher.stop()
        self.replay_server.stop()
        for thread in self._threads[:2]:
            thread.join(5)
        self.ledger.stop()
        self._threads[2].join(5)
        self.publisher.close()
        self.replay_server.close()
        for context in self._contexts:
            context.term()
        self.spool.release()


def ledger_verdicts(folder: Path) -> list[Verdict]:
    """Every verdict in the ledger, in order: what the peers' logs are compared with.

    It must verify, and hold what the spool holds.
    """
    path = folder / "press.ledger.sqlite"
    scan = scan_spool(folder / "press.spool")
    assert scan is not None
    frames = [scan.frames[seq] for seq in sorted(scan.frames)]
    assert all(frame.payload is not None for frame in frames)
    until = time.monotonic() + 10
    while read_tail(path).last_seq < scan.last_seq:
        assert time.monotonic() < until, "the ledger is behind"
        time.sleep(0.02)
    account = verify_ledger(path, folder / "press.spool")
    assert account.is_consistent, account.problems
    with closing(open_ledger(path)) as base:
        rows = base.execute("SELECT seq FROM verdicts ORDER BY seq").fetchall()
        bodies = [read_body(base, seq) for (seq,) in rows]
    assert bodies[-len(frames) :] == [frame.payload for frame in frames]
    return [decode_verdict(body) for body in bodies if body is not None]


def main(folder: str, verdicts: str, replay: str) -> None:
    """Execute `judge COUNT RATE`, one per line, until the input ends."""
    configure("console", "error")  # its output is read by the test
    fake_line = FakeLine(Path(folder), verdicts=verdicts, replay=replay)
    for left in fake_line.spool.unfinished:
        raise AssertionError(f"frame {left.seq} was left open")
    print("ready", fake_line.publisher.address, fake_line.replay_server.address, flush=True)
    for line in sys.stdin:
        word, count, rate_hz = line.split()
        assert word == "judge"
        fake_line.close_frames(int(count), float(rate_hz))
        print("done", fake_line.spool.last_seq, flush=True)
    fake_line.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
