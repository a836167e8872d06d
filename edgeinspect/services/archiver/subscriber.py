"""The ear: hears every verdict, and copies the pictures worth keeping before they are gone.

Two subscriptions. The live one is what pictures are copied by: a slot of the ring is used
again after a few frames, so a verdict must not stand behind a backlog that is being replayed.
The other gives every verdict once and in order, over restarts: by it is known what the live
one did not hear in time, and from where to go on.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from edgeinspect.client import Delivered, Event, Feed, Listener, Lost, Renumbered
from edgeinspect.domain.clock import Clock
from edgeinspect.domain.verdict import Reason, Verdict
from edgeinspect.errors import DataError
from edgeinspect.services.archiver.frame_source import Rings
from edgeinspect.services.archiver.write_queue import Caught, Waiting
from edgeinspect.storage.archive.format import Kind
from edgeinspect.storage.archive.progress import Account, Why
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.wire.messages import Heartbeat, Mask

_TURN = 256
_SEEN_LIMIT = 1 << 20
_NO_WONDER = frozenset((Reason.OVERRUN, Reason.RESTART))
"""Frames whose slot was taken from them, or whose daemon died: often without pixels."""

_log = structlog.get_logger()


class Catcher:
    """For one thread; `Waiting` and `Account` carry on from here."""

    def __init__(
        self,
        *,
        line: str,
        live: Listener,
        feed: Feed,
        rings: Rings,
        classify: Callable[[Verdict], Kind | None],
        has: Callable[[tuple[int, int]], bool],
        waiting: Waiting,
        account: Account,
        clock: Clock,
    ) -> None:
        """Args:
        line: Whose verdicts count.
        live: All topics of the line.
        feed: Begins at the account's cursor.
        rings: Of the line.
        classify: Why a frame is kept, if it is.
        has: True for an (epoch, seq) that is saved already.
        waiting: Takes what was caught.
        account: Told what became of each frame.
        clock: Of the log's limits.
        """
        self.caught = 0
        """Pictures copied since the start."""
        self.epoch = 0
        self._line = line
        self._live = live
        self._feed = feed
        self._rings = rings
        self._classify = classify
        self._has = has
        self._waiting = waiting
        self._account = account
        self._clock = clock
        self._seen: set[tuple[int, int]] = set()
        """Caught by the live subscription, and not come by the other yet."""
        self._settled = (0, 0)
        """(epoch, seq) of the last that came in order."""
        self._quiet = RateLimited(_log, clock)
        rings.refresh()

    def step(self, timeout_ms: int) -> bool:
        """One turn: what is said now, then what came in order; True if anything came."""
        busy = self._hear_live(timeout_ms)
        return self._hear_feed() or busy

    def _hear_live(self, timeout_ms: int) -> bool:
        for turn in range(_TURN):
            try:
                got = self._live.receive(timeout_ms)
            except DataError as error:
                self._quiet.error(log_events.WIRE_BROKEN, problem=str(error))
                return True
            if got is None:
                return turn > 0
            timeout_ms = 0
            message = got.message
            if message.line != self._line:
                continue
            if isinstance(message, Verdict):
                self._take_live(message, got.mask)
            elif isinstance(message, Heartbeat):
                self._beat(message.epoch)
        return True

    def _take_live(self, verdict: Verdict, mask: Mask | None) -> None:
        key = (verdict.epoch, verdict.seq)
        if key <= self._settled:  # the other subscription was quicker
            return
        kind = self._classify(verdict)
        if kind is None or key in self._seen or self._has(key):
            return
        if self._catch(verdict, kind, mask):
            if len(self._seen) >= _SEEN_LIMIT:  # the feed is away for hours; it looks again
                self._seen.clear()
            self._seen.add(key)

    def _beat(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch = epoch
            self._rings.refresh()

    def _hear_feed(self) -> bool:
        for turn in range(_TURN):
            try:
                event = self._feed.receive(0)
            except DataError as error:
                self._quiet.error(log_events.WIRE_BROKEN, problem=str(error))
                return True
            if event is None:
                return turn > 0
            self._take(event)
        return True

    def _take(self, event: Event) -> None:
        if isinstance(event, Delivered):
            self._settle(event.verdict, event.mask)
            self._account.heard(event.verdict.seq)
            self._feed.ack(event.verdict.seq)
        elif isinstance(event, Lost):
            count = event.to_seq - event.from_seq + 1
            now = self._clock.utc_ns()
            self._account.missed(event.to_seq, now, "unknown", Why.GONE, count)
            self._account.heard(event.to_seq)
            _log.error(log_events.VERDICTS_LOST, from_seq=event.from_seq, to_seq=event.to_seq)
        elif isinstance(event, Renumbered):
            self._account.renumbered()
            _log.error(log_events.LINE_RENUMBERED, epoch=event.epoch, last_seq=event.last_seq)
        elif self._feed.cursor is not None:
            self._account.begin(self._feed.cursor)

    def _settle(self, verdict: Verdict, mask: Mask | None) -> None:
        """A verdict in its order: its picture has been caught, or is now, or never."""
        key = self._settled = (verdict.epoch, verdict.seq)
        self._account.begin(verdict.seq - 1)
        if key in self._seen:
            self._seen.discard(key)
            return
        kind = self._classify(verdict)
        if kind is None or self._has(key) or self._catch(verdict, kind, mask):
            return
        if verdict.reason in _NO_WONDER:
            return
        self._account.missed(verdict.seq, verdict.captured_at_utc_ns, kind.value, Why.TOO_LATE)
        self._quiet.warning(
            log_events.ARCHIVE_MISSED,
            line=self._line,
            kind=kind.value,
            why=Why.TOO_LATE.value,
            seq=verdict.seq,
        )

    def _catch(self, verdict: Verdict, kind: Kind, mask: Mask | None) -> bool:
        found = self._rings.find(verdict)
        if found is None:
            return False
        frame = Caught(verdict, kind, found[0], found[1], mask)
        self._account.opened(frame.key)
        self.caught += 1
        for dropped in self._waiting.put(frame):
            drop(dropped, self._account, Why.MEMORY, self._quiet)
        return True


def drop(frame: Caught, account: Account, why: Why, log: RateLimited) -> None:
    """Give a frame up, and say so."""
    verdict = frame.verdict
    account.missed(verdict.seq, verdict.captured_at_utc_ns, frame.kind.value, why)
    account.settled(frame.key)
    log.warning(
        log_events.ARCHIVE_MISSED,
        line=verdict.line,
        kind=frame.kind.value,
        why=why.value,
        seq=verdict.seq,
    )
