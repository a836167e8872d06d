"""Replay requests under way: one per client, a few verdicts at a time, each client in turn.

A request for thousands of verdicts must not hold up a trigger. So the ROUTER's thread does
one slice between two looks at what has come, and a client that does not read waits alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.storage.spool import Spool
from edgeinspect.wire import (
    VERDICT_TOPIC,
    NoLongerHeld,
    ReplayBusy,
    ReplayComplete,
    ReplayRequest,
    encode_body,
)

JOBS_MAX = 64
"""Clients that are given something again at once; the next one is told to ask later."""
SLICE_VERDICTS = 32
"""Verdicts given to one client before it is the next one's turn."""
_STUCK_NS = NS_PER_S
"""A client that takes nothing for so long has to ask again."""
_TOPIC = VERDICT_TOPIC.encode()


class SendResult(Enum):
    """What became of a message to a client."""

    SENT = 1
    QUEUE_FULL = 2
    """Its queue is full: it does not read."""
    DISCONNECTED = 3
    """It is not connected any more."""


@dataclass(slots=True)
class _ReplayJob:
    client: bytes
    from_seq: int
    next_seq: int
    end_seq: int
    progressed_at_ns: int


class ReplayJobs:
    """For the ROUTER's thread. `send` (client, parts) never waits."""

    def __init__(
        self, spool: Spool, clock: Clock, send: Callable[[bytes, list[bytes]], SendResult]
    ) -> None:
        self.replayed_count = 0
        """Verdicts given again."""
        self.refused_count = 0
        """Requests that were told to come later."""
        self._spool = spool
        self._clock = clock
        self._send = send
        self._jobs: deque[_ReplayJob] = deque()
        self._clients: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, client: bytes, request: ReplayRequest) -> None:
        """Take a request in, or answer at once that it is gone, or that it must wait."""
        spool = self._spool
        if client in self._clients or len(self._jobs) >= JOBS_MAX:
            self.refused_count += 1
            busy = ReplayBusy(epoch=spool.epoch, from_seq=request.from_seq)
            self._send(client, [encode_body(busy)])
            return
        oldest = spool.oldest_seq
        if request.from_seq < oldest and spool.last_seq:
            gone = NoLongerHeld(epoch=spool.epoch, from_seq=request.from_seq, oldest_seq=oldest)
            self._send(client, [encode_body(gone)])
            return
        # Only what has been published: an open frame, or one behind it, comes in its turn.
        end_seq = min(request.from_seq + request.limit - 1, spool.published_seq)
        first = request.from_seq
        self._clients.add(client)
        self._jobs.append(_ReplayJob(client, first, first, end_seq, self._clock.now_ns()))

    def send_slice(self) -> bool:
        """One slice for the client whose turn it is; False if none could take anything."""
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            sent = self._send_verdicts(job)
            if sent is SendResult.SENT and job.next_seq > job.end_seq:
                sent = self._send_completion(job)
                if sent is not SendResult.QUEUE_FULL:
                    self._clients.discard(job.client)
                    return True
            stuck = self._clock.now_ns() - job.progressed_at_ns > _STUCK_NS
            if sent is SendResult.DISCONNECTED or (sent is SendResult.QUEUE_FULL and stuck):
                self._clients.discard(job.client)
                continue
            self._jobs.append(job)
            if sent is SendResult.SENT:
                return True
        return False

    def _send_verdicts(self, job: _ReplayJob) -> SendResult:
        for _ in range(SLICE_VERDICTS):
            if job.next_seq > job.end_seq:
                break
            body = self._spool.read(job.next_seq)
            if body is None:  # overwritten while we sent: the next request will say gone
                job.end_seq = job.next_seq - 1
                break
            sent = self._send(job.client, [_TOPIC, body])
            if sent is not SendResult.SENT:
                return sent
            self.replayed_count += 1
            job.next_seq += 1
            job.progressed_at_ns = self._clock.now_ns()
        return SendResult.SENT

    def _send_completion(self, job: _ReplayJob) -> SendResult:
        answer = ReplayComplete(
            epoch=self._spool.epoch,
            from_seq=job.from_seq,
            to_seq=job.next_seq - 1,
            last_seq=self._spool.published_seq,
        )
        return self._send(job.client, [encode_body(answer)])
