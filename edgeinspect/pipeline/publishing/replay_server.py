"""Replay: a ROUTER that gives verdicts again, hears acknowledgements, and takes triggers.

It runs in a thread and a ZeroMQ context of its own and does little per turn, so that what
a stranger sends here cannot slow a verdict.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable

import msgspec
import zmq

from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.domain.frame import Part
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.pipeline.capture.pending_triggers import Ticket
from edgeinspect.pipeline.publishing.disk_tasks import Errands
from edgeinspect.pipeline.publishing.replay_jobs import ReplayJobs, Sent
from edgeinspect.pipeline.publishing.trigger_expiry import TriggerExpiry
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.wire.admission import Admission
from edgeinspect.wire.curve_authenticator import Prepare, open_to_all
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, bind
from edgeinspect.wire.requests import (
    REQUEST_BYTES_MAX,
    Ack,
    ChallengeRequest,
    OperatorRequest,
    ReplayRequest,
    TriggerCount,
    Triggered,
    TriggerRequest,
    decode_request,
    encode,
)
from edgeinspect.wire.slow_clients import Untaken, Watched
from edgeinspect.wire.unfinished_messages import Unended

Socket = zmq.Socket[bytes]
_TURN_REQUESTS = 16
_TURN_PAUSE_NS = 4 * NS_PER_MS
"""16 messages every 4 ms: a flood costs the interpreter some percent, not all of it."""
_CLIENT_MESSAGES_MAX = 256
"""Queued for one client that does not read: about 256 KiB."""
ENTRIES = 40
"""Entries for the ledger, of all clients together; `_ENTRY_NS` later one more."""
_ENTRY_NS = 500 * NS_PER_MS
_TICKET_POLL_MS = 2
_TICKET_NS = 400 * NS_PER_MS
"""Longest wait for the seq of a triggered frame; a gateway waits 500 ms for the answer."""


def no_ledger(_actor: str, _action: str, _detail: str) -> None:
    """What a line without a ledger answers to an entry for it."""
    raise UsageError("this line keeps no ledger to write that into", remedy="Add `ledger: {}`")


def no_count(_said: TriggerCount) -> None:
    """What a line without cameras answers to a count of triggers."""
    raise UsageError("this line has no camera")


class Replay:
    """Owns the ROUTER socket. `run` is its thread; `stop` is thread-safe."""

    def __init__(
        self,
        *,
        context: zmq.Context[Socket],
        address: str,
        spool: Spool,
        clock: Clock,
        trigger: Callable[[str, Part], Ticket | None],
        challenge: Callable[[str | None, str], Callable[[], None] | None],
        count_triggers: Callable[[TriggerCount], None] = no_count,
        operate: Callable[[str, str, str], None] = no_ledger,
        prepare: Prepare = open_to_all,
    ) -> None:
        """Bind, in a context that nothing else is in.

        `trigger` (camera, part), `challenge` (camera or None, picture), `count_triggers`
        and `operate` (actor, action, detail: an entry for
        the ledger) are called from this thread and raise `EdgeInspectError` for what cannot
        be done; `prepare` puts CURVE on the socket before it is bound.

        Raises:
            AddressError: The address is in use, or not there yet.
            ConfigError: It cannot be bound.
        """
        self.dropped = 0
        """Messages that were no request."""
        self.turns = 0
        """Moves on at every turn of the thread, ten times a second at the least."""
        self.acks: dict[str, int] = {}
        """Last seq acknowledged, by subscriber's name; at most 256 names."""
        self._spool = spool
        self._clock = clock
        self._trigger = trigger
        self._challenge = challenge
        self._count_triggers = count_triggers
        self._tickets: deque[tuple[list[bytes], Ticket, int]] = deque()
        self._operate = operate
        self._expiry = TriggerExpiry(clock)
        self._jobs = ReplayJobs(spool, clock, self._give)
        self._errands = Errands(clock)
        self._stop = False
        self._heard_at_ns: dict[int, int] = {}
        """Of a client's descriptor: its last whole message."""
        self._sent = (0, 0)
        self._entries_free_at_ns = -(1 << 62)
        self._admission: Admission | None = None
        watched = Watched(
            Untaken(clock, lambda: self._sent, _CLIENT_MESSAGES_MAX),
            Unended(clock, lambda client: self._heard_at_ns.get(client, 0)),
            self._forget,
        )
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = REQUEST_BYTES_MAX
        self._socket.rcvhwm = 256
        self._socket.sndhwm = _CLIENT_MESSAGES_MAX
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # or a full queue would lose in silence
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        try:
            prepare(context, self._socket, watched)
            if self._socket.mechanism != zmq.CURVE:
                self._admission = Admission(
                    context,
                    self._socket,
                    has_asked=self._heard_at_ns.__contains__,
                    clock=clock,
                    watched=watched,
                )
            self._bound = bind(self._socket, address, "publish.replay")
        except BaseException:
            if self._admission is not None:
                self._admission.close()
            self._socket.close(0)
            raise
        if self._admission is not None:
            self._admission.start(self._bound)

    @property
    def replayed(self) -> int:
        """Verdicts given again."""
        return self._jobs.replayed

    @property
    def address(self) -> str:
        """Where the socket is bound."""
        endpoint = self._socket.last_endpoint
        assert isinstance(endpoint, bytes)
        return endpoint.decode().rstrip("\0")

    def run(self) -> None:
        """The thread, until `stop`. Orders come first; then a slice of what is asked again."""
        while not self._stop:
            self.turns += 1
            looked_at_ns = self._expiry.turn()
            there = self._socket.poll(self._patience_ms())
            self._answer_tickets()
            self._errands.finish()
            heard = self._hear_some(looked_at_ns) if there else 0
            if not there:
                self._expiry.saw_empty(looked_at_ns)
            if self._jobs:
                self._jobs.step()
            if heard:
                self._clock.sleep_until(self._clock.now_ns() + _TURN_PAUSE_NS)
            elif self._jobs:
                self._clock.sleep_until(self._clock.now_ns() + NS_PER_MS)
        self._errands.stop()

    def _patience_ms(self) -> int:
        if self._jobs:
            return 0
        return _TICKET_POLL_MS if self._tickets or self._errands else 100

    def _hear_some(self, looked_at_ns: int) -> int:
        """Take a few messages; returns how many."""
        for count in range(_TURN_REQUESTS):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._expiry.saw_empty(looked_at_ns)
                return count
            self._note(frames[0])
            self._hear([frame.bytes for frame in frames])
        return _TURN_REQUESTS

    def stop(self) -> None:
        """End the thread within 100 ms."""
        self._stop = True

    def dispose(self) -> None:
        """Close the socket, after the thread has ended."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close(0)
        self._bound.release()

    def _note(self, frame: zmq.Frame) -> None:
        """Keep in mind whose connection is in use, and when."""
        with contextlib.suppress(zmq.ZMQError):
            self._heard_at_ns[int(frame.get(zmq.SRCFD))] = self._clock.now_ns()

    def _forget(self, client: int) -> None:
        self._heard_at_ns.pop(client, None)

    def _hear(self, parts: list[bytes]) -> None:
        try:
            request = decode_request(parts[-1]) if len(parts) in (2, 3) else None
        except msgspec.DecodeError:
            request = None
        if request is None:
            self.dropped += 1
        elif isinstance(request, ReplayRequest):
            self._jobs.take(parts[0], request)
        elif isinstance(request, Ack):
            if request.name in self.acks or len(self.acks) < 256:
                self.acks[request.name] = request.seq
            else:
                self.dropped += 1
        elif isinstance(request, TriggerCount):
            try:
                self._count_triggers(request)
            except EdgeInspectError:  # of a camera that is not there
                self.dropped += 1
        else:
            # With its empty part, if there was one: then a REQ socket hears it too.
            self._obey(parts[:-1], request)

    def _obey(
        self, sender: list[bytes], request: TriggerRequest | ChallengeRequest | OperatorRequest
    ) -> None:
        """Do it and answer, or wait for the frame that was triggered."""
        try:
            if isinstance(request, ChallengeRequest):
                self._read_challenge(sender, request)
                return
            if isinstance(request, OperatorRequest):
                self._take_entry()
                self._operate(request.actor, request.action, request.detail)
            else:
                part = Part(
                    request.part_id,
                    request.encoder_count,
                    request.simulated,
                    self._expiry.of(request),
                )
                ticket = self._trigger(request.camera, part)
                if ticket is not None:
                    self._tickets.append((sender, ticket, self._clock.now_ns() + _TICKET_NS))
                    return
        except EdgeInspectError as error:
            self._send(sender, [encode(Triggered(accepted=False, problem=str(error)))])
            return
        self._send(sender, [encode(Triggered(accepted=True))])

    def _take_entry(self) -> None:
        """Count an entry for the ledger: it is kept for good, and makes verdicts give way.

        Raises:
            UsageError: There were too many lately.
        """
        now_ns = self._clock.now_ns()
        self._entries_free_at_ns = max(self._entries_free_at_ns, now_ns - ENTRIES * _ENTRY_NS)
        if self._entries_free_at_ns > now_ns - _ENTRY_NS:
            raise UsageError("too many entries for the ledger lately", remedy="Try again later")
        self._entries_free_at_ns += _ENTRY_NS

    def _answer_tickets(self) -> None:
        """Answer each trigger whose frame has come, in whatever order, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._tickets)):
            sender, ticket, until_ns = self._tickets.popleft()
            if ticket.seq is None and now_ns < until_ns:
                self._tickets.append((sender, ticket, until_ns))
            else:
                self._send(sender, [encode(Triggered(accepted=True, seq=ticket.seq))])

    def _read_challenge(self, sender: list[bytes], request: ChallengeRequest) -> None:
        """Have the picture read; the answer comes when it is, or when its time is up."""

        def answer(problem: str) -> None:
            self._send(sender, [encode(Triggered(accepted=not problem, problem=problem))])

        read = functools.partial(self._challenge, request.camera, request.picture)
        self._errands.take(read, request.picture, answer)

    def _give(self, client: bytes, parts: list[bytes]) -> Sent:
        return self._send([client], parts)

    def _send(self, sender: list[bytes], parts: list[bytes]) -> Sent:
        """Never waits: a client that cannot take it now will ask again."""
        try:
            self._socket.send_multipart([*sender, *parts], zmq.NOBLOCK)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError:  # EHOSTUNREACH
            return Sent.GONE
        sent_bytes, messages = self._sent
        self._sent = sent_bytes + sum(map(len, parts)), messages + 1
        return Sent.YES
