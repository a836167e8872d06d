"""A spool that a test fills by hand, for publisher and replay server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import zmq

from edgeinspect.domain.clock import NS_PER_MS, SystemClock
from edgeinspect.domain.verdict import Decision, Reason, StageTimes, Verdict
from edgeinspect.pipeline.verdicts.closer import Provenance, VerdictCloser
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.wire.messages import encode_message

Socket = zmq.Socket[bytes]


class PublishingHarness:
    """One line `t`; the contexts of a test and of what it tests, closed together."""

    def __init__(self, folder: Path, slots: int = 64) -> None:
        self.clock = SystemClock()
        self.spool = Spool(folder / "t.spool", line="t", slots=slots, utc_ns=self.clock.utc_ns())
        provenance = Provenance("t", ("top",), "0" * 12, 100_000, None, None)
        self.closer = VerdictCloser(self.spool, self.clock, provenance, lambda: None)
        self.context: zmq.Context[Socket] = zmq.Context()
        self.peers: zmq.Context[Socket] = zmq.Context()
        self.sockets: list[Socket] = []  # a context does not reference them
        self.close_callbacks: list[Callable[[], None]] = []

    def open(self) -> int:
        return self.spool.open(OpenRecord("top", 1, 1, 0, 0, 0))

    def close_frame(self, seq: int) -> bytes:
        body = encode_message(
            Verdict(
                line="t",
                camera="top",
                epoch=self.spool.epoch,
                seq=seq,
                frame=seq,
                camera_frame_id=seq,
                captured_at_utc_ns=0,
                deadline_utc_ns=0,
                act_by_utc_ns=0,
                decision=Decision.PASS,
                reason=Reason.CLEAN,
                config_hash="0" * 12,
                stages=StageTimes(1, 2, 3, 4, 10),
                budget_us=100_000,
            )
        )
        self.spool.close(seq, body)
        return body

    def close_frames(self, count: int) -> list[bytes]:
        return [self.close_frame(self.open()) for _ in range(count)]

    def peer(self, kind: int, address: str) -> Socket:
        socket = self.peers.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = 5_000
        socket.connect(address)
        self.sockets.append(socket)
        return socket

    def close(self) -> None:
        self.peers.destroy(0)
        for dispose in self.close_callbacks:
            dispose()
        self.context.term()
        self.spool.release()


HEARTBEAT_NS = 20 * NS_PER_MS
