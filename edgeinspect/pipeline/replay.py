"""Replay: a ROUTER that gives verdicts again, hears acknowledgements, and takes triggers.

It runs in a thread and a ZeroMQ context of its own and does little per turn, so that what
a stranger sends here cannot slow a verdict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import zmq

from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.domain.frame import Part
from edgeinspect.errors import ConfigError, EdgeInspectError, Fault, UsageError
from edgeinspect.pipeline.tickets import Ticket
from edgeinspect.pipeline.trigger_expiry import TriggerExpiry
from edgeinspect.spool import Spool
from edgeinspect.wire import VERDICT_TOPIC
from edgeinspect.wire_replay import (
    REQUEST_BYTES_MAX,
    Ack,
    ChallengeRequest,
    Gone,
    OperatorRequest,
    Replayed,
    ReplayRequest,
    TriggerCount,
    Triggered,
    TriggerRequest,
    decode_request,
    encode,
)

Socket = zmq.Socket[bytes]
_TURN_REQUESTS = 16
_TURN_PAUSE_NS = 4 * NS_PER_MS
"""16 messages every 4 ms: a flood costs the interpreter some percent, not all of it."""
_CHUNK = 32
_TICKET_POLL_MS = 2
_TICKET_NS = 400 * NS_PER_MS
"""Longest wait for the seq of a triggered frame; a gateway waits 500 ms for the answer."""
_TOPIC = VERDICT_TOPIC.encode()


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
        challenge: Callable[[str | None, str], None],
        count_triggers: Callable[[TriggerCount], None] = no_count,
        operate: Callable[[str, str, str], None] = no_ledger,
        prepare: Callable[[zmq.Context[Socket], Socket], None] = lambda context, socket: None,
    ) -> None:
        """Bind, in a context that nothing else is in.

        `trigger` (camera, part), `challenge` (camera or None, picture), `count_triggers`
        and `operate` (actor, action, detail: an entry for
        the ledger) are called from this thread and raise `EdgeInspectError` for what cannot
        be done; `prepare` puts CURVE on the socket before it is bound.

        Raises:
            ConfigError: The address cannot be bound.
        """
        self.dropped = 0
        """Messages that were no request."""
        self.turns = 0
        """Moves on at every turn of the thread, ten times a second at the least."""
        self.replayed = 0
        """Verdicts given again."""
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
        self._stop = False
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = REQUEST_BYTES_MAX
        self._socket.rcvhwm = 256
        self._socket.sndhwm = 8192
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            prepare(context, self._socket)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._socket.close(0)
            fault = Fault("publish.replay", f"cannot be bound: {error.strerror}", address)
            raise ConfigError([fault]) from error

    @property
    def address(self) -> str:
        """Where the socket is bound."""
        endpoint = self._socket.last_endpoint
        assert isinstance(endpoint, bytes)
        return endpoint.decode().rstrip("\0")

    def run(self) -> None:
        """The thread, until `stop`."""
        while not self._stop:
            self.turns += 1
            looked_at_ns = self._expiry.turn()
            there = self._socket.poll(_TICKET_POLL_MS if self._tickets else 100)
            self._answer_tickets()
            if not there:
                self._expiry.saw_empty(looked_at_ns)
                continue
            for _ in range(_TURN_REQUESTS):
                try:
                    parts = self._socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    self._expiry.saw_empty(looked_at_ns)
                    break
                self._hear(parts)
            self._clock.sleep_until(self._clock.now_ns() + _TURN_PAUSE_NS)

    def stop(self) -> None:
        """End the thread within 100 ms."""
        self._stop = True

    def dispose(self) -> None:
        """Close the socket, after the thread has ended."""
        self._socket.close(0)

    def _hear(self, parts: list[bytes]) -> None:
        try:
            request = decode_request(parts[-1]) if len(parts) in (2, 3) else None
        except msgspec.DecodeError:
            request = None
        if request is None:
            self.dropped += 1
        elif isinstance(request, ReplayRequest):
            self._replay(parts[:1], request)
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

    def _replay(self, client: list[bytes], request: ReplayRequest) -> None:
        spool = self._spool
        oldest = spool.oldest_seq
        epoch = spool.epoch
        if request.from_seq < oldest and spool.last_seq:
            gone = Gone(epoch=epoch, from_seq=request.from_seq, oldest_seq=oldest)
            self._send(client, [encode(gone)])
            return
        # Only what has been published: an open frame, or one behind it, comes in its turn.
        end = min(request.from_seq + request.limit - 1, spool.published_seq)
        seq = request.from_seq
        while seq <= end and not self._stop:
            body = spool.read(seq)
            if body is None:  # overwritten while we sent: the next request will say gone
                break
            if not self._send(client, [_TOPIC, body]):
                break
            self.replayed += 1
            seq += 1
            if seq % _CHUNK == 0:
                self.turns += 1
                self._clock.sleep_until(self._clock.now_ns() + NS_PER_MS)
        answer = Replayed(
            epoch=epoch,
            from_seq=request.from_seq,
            to_seq=seq - 1,
            last_seq=spool.published_seq,
        )
        self._send(client, [encode(answer)])

    def _obey(
        self, sender: list[bytes], request: TriggerRequest | ChallengeRequest | OperatorRequest
    ) -> None:
        """Do it and answer, or wait for the frame that was triggered."""
        try:
            if isinstance(request, ChallengeRequest):
                self._challenge(request.camera, request.picture)
            elif isinstance(request, OperatorRequest):
                self._operate(request.actor, request.action, request.detail)
            else:
                part = Part(request.part_id, request.encoder_count, request.simulated,
                            self._expiry.of(request))  # fmt: skip
                ticket = self._trigger(request.camera, part)
                if ticket is not None:
                    self._tickets.append((sender, ticket, self._clock.now_ns() + _TICKET_NS))
                    return
        except EdgeInspectError as error:
            self._send(sender, [encode(Triggered(accepted=False, problem=str(error)))])
            return
        self._send(sender, [encode(Triggered(accepted=True))])

    def _answer_tickets(self) -> None:
        """Answer each trigger whose frame has come, in whatever order, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._tickets)):
            sender, ticket, until_ns = self._tickets.popleft()
            if ticket.seq is None and now_ns < until_ns:
                self._tickets.append((sender, ticket, until_ns))
            else:
                self._send(sender, [encode(Triggered(accepted=True, seq=ticket.seq))])

    def _send(self, sender: list[bytes], parts: list[bytes]) -> bool:
        """False if the client cannot take it now; it will ask again."""
        try:
            self._socket.send_multipart([*sender, *parts], zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True
