"""Bounds the age of what a PLC has written. Pure; the caller passes the time.

A PLC that writes a trigger means the part at the camera at that moment. Its own retries, an
unplugged cable or a stopped gateway may delay the trigger. A link cannot know the age of a
message, but it knows a bound: the last time it was in contact with the peer, or found nothing
to read. The trigger carries that bound, and the gateway refuses what may be too old.
"""

from __future__ import annotations

from edgeinspect.domain import NS_PER_MS, STALL_NS

WRITER_SILENCE_NS = 300 * NS_PER_MS
"""A peer that writes in every cycle and is silent for longer counts as disconnected."""
READER_SILENCE_NS = 1_000 * NS_PER_MS
"""The same for a peer that reads in every cycle and writes only on an event."""
_POLLING_MESSAGES_MIN = 5
"""Messages without a silence after which a peer counts as polling."""
_PEERS_MAX = 256


class PeerActivity:
    """The messages of one connection, or one session, of a peer that writes."""

    __slots__ = (
        "_arrived_ns",
        "_has_written",
        "_is_reader",
        "_messages_since_trigger",
        "_messages_without_silence",
        "_now_ns",
        "_previous_contact_ns",
        "_sent_after_ns",
        "_silence_began_ns",
        "_written_at_ns",
        "address",
        "last_contact_ns",
    )

    def __init__(self, address: str = "", previous_contact_ns: int | None = None) -> None:
        """Start without a message.

        Args:
            address: Of the peer.
            previous_contact_ns: `last_contact_ns` of the peer's previous connection; None if
                there was none.
        """
        self.address = address
        self.last_contact_ns: int | None = None
        """The earliest time at which the last answered message was sent; None for none."""
        self._arrived_ns = 0
        self._previous_contact_ns = previous_contact_ns
        self._silence_began_ns: int | None = None
        self._sent_after_ns: int | None = previous_contact_ns
        self._now_ns = self._written_at_ns = 0
        self._messages_without_silence = self._messages_since_trigger = 0
        self._has_written = self._is_reader = False

    def record_message(self, now_ns: int, arrived_after_ns: int) -> None:
        """Record that bytes were received; call before the request is executed.

        Args:
            now_ns: The time.
            arrived_after_ns: A time at which they had not arrived yet.
        """
        heard_at_ns, self._arrived_ns = self.last_contact_ns, arrived_after_ns
        self._now_ns = now_ns
        # Counts as a writer until it has shown that it only reads: the shorter bound is safe.
        self._messages_since_trigger += 1
        self._is_reader = self._is_reader or (
            self._has_written and self._messages_since_trigger > _POLLING_MESSAGES_MIN
        )
        limit_ns = READER_SILENCE_NS if self._is_reader else WRITER_SILENCE_NS
        silent = heard_at_ns is not None and now_ns - heard_at_ns > limit_ns
        if (
            silent
            and self._messages_without_silence >= _POLLING_MESSAGES_MIN
            and self._silence_began_ns is None
        ):
            self._silence_began_ns = heard_at_ns
        self._messages_without_silence = 0 if silent else self._messages_without_silence + 1
        if not self._has_written:
            self._sent_after_ns = self._previous_contact_ns
        elif self._silence_began_ns is not None:
            self._sent_after_ns = self._silence_began_ns
        else:
            self._sent_after_ns = arrived_after_ns

    def record_answered(self) -> None:
        """Record that everything received has been answered.

        The contact is as old as the message: a gateway that was stopped may answer a peer
        that has disconnected long ago.
        """
        self.last_contact_ns = self._arrived_ns

    def record_trigger(self) -> int | None:
        """Record a trigger id; return the earliest time at which the PLC requested it.

        None if that is not known. The first trigger of a connection may be as old as the
        previous connection; one after a silence may be as old as the silence.
        """
        since_ns = self._sent_after_ns
        in_cycle = self._has_written and self._now_ns - self._written_at_ns <= WRITER_SILENCE_NS
        self._is_reader = self._is_reader and not (
            in_cycle and self._messages_since_trigger <= _POLLING_MESSAGES_MIN
        )
        self._messages_since_trigger = 0
        self._has_written, self._written_at_ns = True, self._now_ns
        self._silence_began_ns = None
        return since_ns


class PollTimes:
    """When a loop polled for messages; the process may be stopped for a while.

    For a loop that gets its messages from another thread or task. After a stop either may run
    first, so a message received soon after it may be as old as the stop.
    """

    def __init__(self, now_ns: int) -> None:
        self._previous_ns = self._latest_ns = now_ns
        self._stall_began_ns = now_ns
        self._uncertain_until_ns = now_ns

    def record_poll(self, now_ns: int) -> None:
        """Record one iteration of the loop."""
        if now_ns - self._latest_ns > STALL_NS:
            self._stall_began_ns = self._previous_ns
            self._uncertain_until_ns = now_ns + STALL_NS
        self._previous_ns, self._latest_ns = self._latest_ns, now_ns

    def arrived_after_ns(self, now_ns: int) -> int:
        """Return a time at which what is received now had not arrived yet."""
        stopped = now_ns - self._latest_ns > STALL_NS
        if not stopped and now_ns < self._uncertain_until_ns:
            return self._stall_began_ns
        return self._previous_ns


class AckTracker:
    """Relates a PLC's acknowledgements to the images that had reached it.

    An id stays in its register until the next one is written, so the id that is found there
    may be years old. A link that was just started can tell only by the order of reads and
    writes.
    """

    def __init__(self) -> None:
        self._ack: int | None = None
        self._revision_at_ack = -1

    def revision_at_ack(self, ack: int | None, delivered_revision: int) -> int:
        """Return the revision that had reached the PLC when it wrote `ack`.

        Args:
            ack: The acknowledged id; None if the PLC never wrote one.
            delivered_revision: Revision of the newest image that the PLC can have read before
                it wrote; -1 for none.
        """
        if ack != self._ack:
            self._ack, self._revision_at_ack = ack, delivered_revision
        return self._revision_at_ack


class LastTriggerIds:
    """The trigger id that each peer wrote last; only a change by its writer is a new trigger."""

    def __init__(self) -> None:
        self._by_peer: dict[int, tuple[PeerActivity, int]] = {}

    def is_changed_by(self, peer: PeerActivity, trigger_id: int) -> bool:
        """Whether `peer` changed the id since its own last write; records the write."""
        _peer, last_id = self._by_peer.get(id(peer), (peer, None))
        if id(peer) not in self._by_peer and len(self._by_peer) >= _PEERS_MAX:
            self._by_peer.pop(next(iter(self._by_peer)))
        self._by_peer[id(peer)] = peer, trigger_id  # referenced, so that id(peer) is not reused
        return last_id != trigger_id

    def peers(self) -> list[PeerActivity]:
        """Return the peers that have written a trigger id."""
        return [peer for peer, _trigger_id in self._by_peer.values()]

    def remove(self, peer: PeerActivity) -> bool:
        """Remove a peer; return whether it wrote a trigger id."""
        return self._by_peer.pop(id(peer), None) is not None
