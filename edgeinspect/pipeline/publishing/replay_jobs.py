"""Replay requests in progress: one per client, a few verdicts at a time, each client in turn.

A request for thousands of verdicts must not delay a trigger. So the ROUTER's thread sends one
slice between two polls of its socket, and a client that does not read delays no other.
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
"""Clients with a replay in progress; the next one gets `busy`."""
SLICE_VERDICTS = 32
"""Verdicts sent to one client before the next client's turn."""
_STUCK_NS = NS_PER_S
"""The replay of a client that receives nothing for this long ends."""
_TOPIC = VERDICT_TOPIC.encode()


class SendResult(Enum):
    """The result of sending a message to a client."""

    SENT = 1
    QUEUE_FULL = 2
    """The client does not read."""
    DISCONNECTED = 3
    """The client is not connected any more."""


@dataclass(slots=True)
class _ReplayJob:
    client: bytes
    from_seq: int
    next_seq: int
    end_seq: int
    progressed_at_ns: int


class ReplayJobs:
    """The replays in progress. Used by the ROUTER's thread.

    Args:
        spool: Whose verdicts are sent again.
        clock: Detects clients that do not read.
        send: Sends (client, message parts) without waiting.
    """

    def __init__(
        self, spool: Spool, clock: Clock, send: Callable[[bytes, list[bytes]], SendResult]
    ) -> None:
        self.replayed_count = 0
        """Verdicts that were sent again."""
        self.refused_count = 0
        """Requests that got `busy`."""
        self._spool = spool
        self._clock = clock
        self._send = send
        self._jobs: deque[_ReplayJob] = deque()
        self._clients: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, client: bytes, request: ReplayRequest) -> None:
        """Add a request, or reply at once that its verdicts are gone or that it must wait."""
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
        # Only what was published: an open frame, or one behind it, is published later.
        end_seq = min(request.from_seq + request.limit - 1, spool.published_seq)
        first = request.from_seq
        self._clients.add(client)
        self._jobs.append(_ReplayJob(client, first, first, end_seq, self._clock.now_ns()))

    def send_slice(self) -> bool:
        """Send one slice to the next client; return False if no client could receive any."""
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            result = self._send_verdicts(job)
            if result is SendResult.SENT and job.next_seq > job.end_seq:
                result = self._send_completion(job)
                if result is not SendResult.QUEUE_FULL:
                    self._clients.discard(job.client)
                    return True
            is_stuck = self._clock.now_ns() - job.progressed_at_ns > _STUCK_NS
            if result is SendResult.DISCONNECTED or (result is SendResult.QUEUE_FULL and is_stuck):
                self._clients.discard(job.client)
                continue
            self._jobs.append(job)
            if result is SendResult.SENT:
                return True
        return False

    def _send_verdicts(self, job: _ReplayJob) -> SendResult:
        for _ in range(SLICE_VERDICTS):
            if job.next_seq > job.end_seq:
                break
            body = self._spool.read(job.next_seq)
            if body is None:  # overwritten meanwhile: the next request gets `gone`
                job.end_seq = job.next_seq - 1
                break
            result = self._send(job.client, [_TOPIC, body])
            if result is not SendResult.SENT:
                return result
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
