"""The replay server: a ROUTER that sends verdicts again and executes commands.

It has a thread and a ZeroMQ context of its own and does little per iteration, so that what a
client sends here cannot delay a verdict.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import zmq

from edgeinspect.domain import NS_PER_MS, Clock, Part
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.pipeline.capture import PendingTrigger
from edgeinspect.pipeline.publishing.disk_tasks import DiskTasks
from edgeinspect.pipeline.publishing.replay_jobs import ReplayJobs, SendResult
from edgeinspect.pipeline.publishing.trigger_expiry import TriggerExpiry
from edgeinspect.storage.spool import Spool
from edgeinspect.wire import (
    HANDSHAKE_MS,
    REQUEST_BYTES_MAX,
    Ack,
    AdmissionControl,
    ChallengeRequest,
    ClientMonitors,
    CommandResult,
    OperatorRequest,
    ReplayRequest,
    ServerSocketSetup,
    SlowClientMonitor,
    Socket,
    TriggerCount,
    TriggerRequest,
    UnfinishedMessageMonitor,
    bind,
    decode_request,
    encode_body,
    no_encryption,
)

_REQUESTS_PER_LOOP = 16
_LOOP_PAUSE_NS = 4 * NS_PER_MS
"""16 messages every 4 ms: a flood takes a few percent of the interpreter's time, not all."""
_CLIENT_MESSAGES_MAX = 256
"""Messages queued for one client that does not read: about 256 KiB."""
LEDGER_ENTRIES_MAX = 40
"""Ledger entries of all clients at once; one more is allowed every `_LEDGER_ENTRY_NS`."""
_LEDGER_ENTRY_NS = 500 * NS_PER_MS
_TRIGGER_POLL_MS = 2
_TRIGGER_TIMEOUT_NS = 400 * NS_PER_MS
"""Longest wait for the seq of a triggered frame; a gateway waits 500 ms for the reply."""


def _no_ledger(_actor: str, _action: str, _detail: str) -> None:
    raise UsageError("this line has no ledger for that entry", remedy="Add `ledger: {}`")


def _no_cameras(_message: TriggerCount) -> None:
    raise UsageError("this line has no camera")


@dataclass(frozen=True, slots=True)
class RequestHandlers:
    """What the server calls for requests. Each may raise `EdgeInspectError` to refuse one."""

    trigger: Callable[[str, Part], PendingTrigger | None]
    """(camera, part)."""
    read_challenge: Callable[[str | None, str], Callable[[], None] | None]
    """(camera or None, image name); returns what injects the image. May wait for a disk."""
    add_trigger_count: Callable[[TriggerCount], None] = _no_cameras
    record_operator_action: Callable[[str, str, str], None] = _no_ledger
    """(actor, action, detail): an entry for the ledger."""


class ReplayServer:
    """Owns the ROUTER socket. `run` is its thread; `stop` is thread-safe."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        address: str,
        spool: Spool,
        handlers: RequestHandlers,
        clock: Clock,
        *,
        secure_socket: ServerSocketSetup = no_encryption,
    ) -> None:
        """Bind the socket.

        Args:
            context: Of the socket, and of no other.
            address: To bind.
            spool: Whose verdicts are sent again.
            handlers: Called by this server's thread.
            clock: For timeouts.
            secure_socket: Enables CURVE on the socket.

        Raises:
            AddressError: The address is in use, or not available yet.
            ConfigError: It cannot be bound.
        """
        self.dropped_count = 0
        """Messages that were no valid request."""
        self.progress_count = 0
        """Advances with each iteration of the thread, at least ten times a second."""
        self.acks: dict[str, int] = {}
        """Last acknowledged seq by subscriber name; at most 256 names."""
        self._spool = spool
        self._clock = clock
        self._handlers = handlers
        self._pending_triggers: deque[tuple[list[bytes], PendingTrigger, int]] = deque()
        self._expiry = TriggerExpiry(clock)
        self._jobs = ReplayJobs(spool, clock, self._send_to_client)
        self._disk_tasks = DiskTasks(clock)
        self._stop = False
        self._last_message_ns: dict[int, int] = {}
        """When the last complete message of a client arrived, by descriptor."""
        self._sent_totals = (0, 0)
        self._ledger_entries_allowed_at_ns = -(1 << 62)
        self._admission: AdmissionControl | None = None
        monitors = ClientMonitors(
            SlowClientMonitor(clock, lambda: self._sent_totals, _CLIENT_MESSAGES_MAX),
            UnfinishedMessageMonitor(clock, lambda client: self._last_message_ns.get(client, 0)),
            self._remove_client,
        )
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = REQUEST_BYTES_MAX
        self._socket.rcvhwm = 256
        self._socket.sndhwm = _CLIENT_MESSAGES_MAX
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else a full queue drops silently
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        try:
            secure_socket(context, self._socket, monitors)
            if self._socket.mechanism != zmq.CURVE:
                self._admission = AdmissionControl(
                    context,
                    self._socket,
                    has_requested=self._last_message_ns.__contains__,
                    clock=clock,
                    client_monitors=monitors,
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
    def replayed_count(self) -> int:
        """Verdicts that were sent again."""
        return self._jobs.replayed_count

    @property
    def address(self) -> str:
        """Where the socket is bound."""
        endpoint = self._socket.last_endpoint
        assert isinstance(endpoint, bytes)
        return endpoint.decode().rstrip("\0")

    def run(self) -> None:
        """The thread, until `stop`. Commands come first, then one slice of a replay."""
        while not self._stop:
            self.progress_count += 1
            polled_at_ns = self._expiry.begin_poll()
            has_messages = self._socket.poll(self._poll_timeout_ms())
            self._answer_triggers()
            self._disk_tasks.answer_finished()
            received = self._receive_some(polled_at_ns) if has_messages else 0
            if not has_messages:
                self._expiry.record_empty(polled_at_ns)
            if self._jobs:
                self._jobs.send_slice()
            if received:
                self._clock.sleep_until(self._clock.now_ns() + _LOOP_PAUSE_NS)
            elif self._jobs:
                self._clock.sleep_until(self._clock.now_ns() + NS_PER_MS)
        self._disk_tasks.stop()

    def _poll_timeout_ms(self) -> int:
        if self._jobs:
            return 0
        return _TRIGGER_POLL_MS if self._pending_triggers or self._disk_tasks else 100

    def _receive_some(self, polled_at_ns: int) -> int:
        """Receive a few messages; return how many."""
        for count in range(_REQUESTS_PER_LOOP):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._expiry.record_empty(polled_at_ns)
                return count
            self._record_use(frames[0])
            self._on_message([frame.bytes for frame in frames])
        return _REQUESTS_PER_LOOP

    def stop(self) -> None:
        """End the thread within 100 ms."""
        self._stop = True

    def close(self) -> None:
        """Close the socket, after the thread has ended."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close(0)
        self._bound.release()

    def _record_use(self, frame: zmq.Frame) -> None:
        """Record when a connection was last used."""
        with contextlib.suppress(zmq.ZMQError):
            self._last_message_ns[int(frame.get(zmq.SRCFD))] = self._clock.now_ns()

    def _remove_client(self, client: int) -> None:
        self._last_message_ns.pop(client, None)

    def _on_message(self, parts: list[bytes]) -> None:
        try:
            request = decode_request(parts[-1]) if len(parts) in (2, 3) else None
        except msgspec.DecodeError:
            request = None
        if request is None:
            self.dropped_count += 1
        elif isinstance(request, ReplayRequest):
            self._jobs.add(parts[0], request)
        elif isinstance(request, Ack):
            if request.name in self.acks or len(self.acks) < 256:
                self.acks[request.name] = request.seq
            else:
                self.dropped_count += 1
        elif isinstance(request, TriggerCount):
            try:
                self._handlers.add_trigger_count(request)
            except EdgeInspectError:  # there is no such camera
                self.dropped_count += 1
        else:
            # With the empty part, if there was one, so that a REQ socket gets it too.
            self._execute(parts[:-1], request)

    def _execute(
        self, sender: list[bytes], request: TriggerRequest | ChallengeRequest | OperatorRequest
    ) -> None:
        """Execute a command and reply; a trigger's reply waits for its frame."""
        try:
            if isinstance(request, ChallengeRequest):
                self._queue_challenge(sender, request)
                return
            if isinstance(request, OperatorRequest):
                self._limit_ledger_entries()
                self._handlers.record_operator_action(request.actor, request.action, request.detail)
            else:
                part = Part(
                    request.part_id,
                    request.encoder_count,
                    request.simulated,
                    self._expiry.expires_at_ns(request),
                )
                pending = self._handlers.trigger(request.camera, part)
                if pending is not None:
                    until_ns = self._clock.now_ns() + _TRIGGER_TIMEOUT_NS
                    self._pending_triggers.append((sender, pending, until_ns))
                    return
        except EdgeInspectError as error:
            self._send(sender, [encode_body(CommandResult(accepted=False, problem=str(error)))])
            return
        self._send(sender, [encode_body(CommandResult(accepted=True))])

    def _limit_ledger_entries(self) -> None:
        """Count an entry for the ledger, which is kept indefinitely and displaces verdicts.

        Raises:
            UsageError: There were too many recently.
        """
        now_ns = self._clock.now_ns()
        self._ledger_entries_allowed_at_ns = max(
            self._ledger_entries_allowed_at_ns, now_ns - LEDGER_ENTRIES_MAX * _LEDGER_ENTRY_NS
        )
        if self._ledger_entries_allowed_at_ns > now_ns - _LEDGER_ENTRY_NS:
            raise UsageError("too many entries for the ledger recently", remedy="Try again later")
        self._ledger_entries_allowed_at_ns += _LEDGER_ENTRY_NS

    def _answer_triggers(self) -> None:
        """Reply to each trigger whose frame was opened, or whose time is up."""
        now_ns = self._clock.now_ns()
        for _ in range(len(self._pending_triggers)):
            sender, pending, until_ns = self._pending_triggers.popleft()
            if pending.seq is None and now_ns < until_ns:
                self._pending_triggers.append((sender, pending, until_ns))
            else:
                self._send(sender, [encode_body(CommandResult(accepted=True, seq=pending.seq))])

    def _queue_challenge(self, sender: list[bytes], request: ChallengeRequest) -> None:
        """Have the image read; the reply is sent when it is, or when its time is up."""

        def reply(problem: str) -> None:
            self._send(sender, [encode_body(CommandResult(accepted=not problem, problem=problem))])

        read = functools.partial(self._handlers.read_challenge, request.camera, request.picture)
        self._disk_tasks.submit(read, request.picture, reply)

    def _send_to_client(self, client: bytes, parts: list[bytes]) -> SendResult:
        return self._send([client], parts)

    def _send(self, sender: list[bytes], parts: list[bytes]) -> SendResult:
        """Send without waiting: a client that cannot receive now will request again."""
        try:
            self._socket.send_multipart([*sender, *parts], zmq.NOBLOCK)
        except zmq.Again:
            return SendResult.QUEUE_FULL
        except zmq.ZMQError:  # EHOSTUNREACH
            return SendResult.DISCONNECTED
        sent_bytes, messages = self._sent_totals
        self._sent_totals = sent_bytes + sum(map(len, parts)), messages + 1
        return SendResult.SENT
