"""How old can it be, what a peer has just written? Pure, on the caller's clock.

Whoever writes a trigger means the part that is at the camera now. Between the PLC's wish and
its arrival here lie its own retries, a cable that was out, and a gateway that was stopped. A
link never knows the age of what came, but it can know a bound: the last moment at which it
was still in contact, or found nothing there to read. That bound goes with the trigger, and
the gateway refuses what may be too old.
"""

from __future__ import annotations

from edgeinspect.domain import NS_PER_MS, STALL_NS

WRITER_SILENCE_NS = 300 * NS_PER_MS
"""A peer that writes in every cycle and is silent for longer has been away."""
READER_SILENCE_NS = 1_000 * NS_PER_MS
"""The same for one that reads in every cycle, and writes when it has something to say."""
_POLLING_MESSAGES_MIN = 5
"""So many messages without a silence, and the peer polls."""


class PeerActivity:
    """One connection, or one session, of a peer that writes."""

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
        """A new one.

        Args:
            address: Of the peer.
            before_ns: When this peer was last heard on the connection before; None for never.
        """
        self.address = address
        self.last_contact_ns: int | None = None
        """The earliest that what was answered last can have been sent."""
        self._arrived_ns = 0
        self._previous_contact_ns = previous_contact_ns
        self._silence_began_ns: int | None = None
        self._sent_after_ns: int | None = previous_contact_ns
        self._now_ns = self._written_at_ns = 0
        self._messages_without_silence = self._messages_since_trigger = 0
        self._has_written = self._is_reader = False

    def record_message(self, now_ns: int, arrived_after_ns: int) -> None:
        """Some bytes have come; call before what they say is carried out.

        Args:
            now_ns: The time.
            arrived_after_ns: An instant at which they were not there yet.
        """
        heard_at_ns, self._arrived_ns = self.last_contact_ns, arrived_after_ns
        self._now_ns = now_ns
        # Taken for a writer until it has shown that it only reads: the shorter bound is safe.
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
        """What came has been answered, and nothing of it is left.

        Not now was the peer there, but when it sent that: a gateway that was stopped answers
        somebody who may have hung up long ago.
        """
        self.last_contact_ns = self._arrived_ns

    def record_trigger(self) -> int | None:
        """A trigger id came; gives when the peer can have wanted it at the earliest.

        The first one of a connection may be as old as the connection before. One that comes
        after a silence may be as old as that. The next is judged anew.
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
    """A loop that looks for what came, and that may be stopped for a while.

    For a loop that is told of messages by another thread, or another task: which of the two
    wakes up first after a stop is chance, so what comes soon after one is as old as the stop.
    """

    def __init__(self, now_ns: int) -> None:
        self._previous_ns = self._latest_ns = now_ns
        self._stall_began_ns = now_ns
        self._uncertain_until_ns = now_ns

    def record_poll(self, now_ns: int) -> None:
        """The loop has gone around."""
        if now_ns - self._latest_ns > STALL_NS:
            self._stall_began_ns = self._previous_ns
            self._uncertain_until_ns = now_ns + STALL_NS
        self._previous_ns, self._latest_ns = self._latest_ns, now_ns

    def arrived_after_ns(self, now_ns: int) -> int:
        """An instant at which what is there now was not there yet."""
        stopped = now_ns - self._latest_ns > STALL_NS
        if not stopped and now_ns < self._uncertain_until_ns:
            return self._stall_began_ns
        return self._previous_ns
