"""Forwards the PLC's triggers to the line and answers them, in a thread; reports the PLC's count
of the triggers that it sends the camera by wire, for the line to compare.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import structlog
import zmq

from edgeinspect.client import SocketSetup, connect_socket, no_encryption
from edgeinspect.domain import (
    NS_PER_MS,
    NS_PER_S,
    Clock,
    PlcCommands,
    PlcInputs,
    TriggerRefusal,
    read_utc_offset_ns,
)
from edgeinspect.errors import EdgeInspectError
from edgeinspect.services.gateway.part_memory import (
    LastTrigger,
    NotPassedReason,
    PartMemory,
    TriggerState,
    digest_part_id,
)
from edgeinspect.services.gateway.trigger_validation import (
    FrameRequest,
    TriggerAnswer,
    TriggerValidator,
)
from edgeinspect.system import DecodeError, RateLimitedLogger, boot_id, log_events
from edgeinspect.wire import (
    CommandResult,
    Socket,
    TriggerCount,
    TriggerRequest,
    decode_reply,
    encode_body,
)

_ANSWER_TIMEOUT_NS = 450 * NS_PER_MS
"""Added to a trigger's expiry: the line answers within 400 ms of receiving it."""
_REPORT_INTERVAL_NS = NS_PER_S // 2

_log = structlog.get_logger()


class TriggerForwarder:
    """Requests a frame of one camera for each new trigger id."""

    def __init__(
        self,
        address: str,
        camera: str,
        clock: Clock,
        memory: PartMemory,
        *,
        max_age_ms: float = 300,
        repeats_after_ns: int | None = None,
        setup_socket: SocketSetup = no_encryption,
    ) -> None:
        """Start the thread.

        Args:
            address: The line's ROUTER.
            camera: Name of the camera that is triggered.
            clock: The one that the link stamps triggers with.
            memory: Keeps the triggers across restarts.
            max_age_ms: Longest time from the PLC's request to the exposure.
            repeats_after_ns: Age after which a part id denotes another part; None for never.
            setup_socket: Sets CURVE keys on the socket.
        """
        self._address = address
        self._camera = camera
        self._clock = clock
        self._memory = memory
        self._setup_socket = setup_socket
        self._repeats_after_ns = repeats_after_ns
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._repeated_id: int | None = None
        """The last trigger id that was refused as a repeat, for the log."""
        self._resolve_interrupted()
        self._validator = TriggerValidator(
            memory.last_trigger, round(max_age_ms * NS_PER_MS), self._is_repeat
        )
        self.answer: TriggerAnswer = self._validator.initial_answer
        """The answer to the last trigger that was answered."""
        self.failure: EdgeInspectError | None = None
        """Set when the thread has ended because the memory cannot be written."""
        self._queue: queue.SimpleQueue[FrameRequest | TriggerAnswer | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)
        self._thread.start()

    def process_commands(self, commands: PlcCommands) -> None:
        """Forward or refuse a new trigger id.

        Raises:
            EdgeInspectError: An answer could not be saved.
        """
        if self.failure is not None:
            raise self.failure
        decision = self._validator.check(commands, self._clock.now_ns())
        if decision is not None:
            self._queue.put(decision)

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join(timeout=2.0)

    def _resolve_interrupted(self) -> None:
        """Refuse a trigger during which the gateway was killed: what the line did is not known,
        so the result of its part must not pass.
        """
        last, clock = self._memory.last_trigger, self._clock
        if last is None:
            return
        part = last.part_digest
        if any(part):  # the ring of triggers is missing in a memory of an older version
            self._memory.save_trigger(last.trigger_id, part, clock.now_ns(), clock.utc_ns())
        if last.state is TriggerState.REQUESTED:
            self._mark_refused(part)
            refused = replace(last, state=TriggerState.REFUSED, refusal=TriggerRefusal.LINE)
            self._memory.save_last_trigger(refused)

    def _is_repeat(self, trigger_id: int, part_id: str) -> bool:
        """Save this trigger of this part; return whether it was received before."""
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        before = self._memory.save_trigger(trigger_id, digest_part_id(part_id), now_ns, utc_ns)
        is_repeat = before is not None and (
            self._repeats_after_ns is None
            or self._memory.age_ns(before, now_ns, utc_ns) < self._repeats_after_ns
        )
        self._repeated_id = trigger_id if is_repeat else None
        return is_repeat

    def _mark_refused(self, part: bytes) -> None:
        if any(part):
            clock = self._clock
            self._memory.save_not_passed(
                part, NotPassedReason.REFUSED, clock.now_ns(), clock.utc_ns()
            )

    def _run(self) -> None:
        context: zmq.Context[Socket] = zmq.Context()
        try:
            socket = self._connect(context)
            while (item := self._queue.get()) is not None:
                if isinstance(item, TriggerAnswer):
                    self._save_answer(item, bytes(16))
                    continue
                accepted = self._forward(socket, item)
                if accepted is None:  # discards what is left in its buffers
                    socket.close(0)
                    socket = self._connect(context)
        except EdgeInspectError as error:
            self.failure = error
        finally:
            context.destroy(0)

    def _connect(self, context: zmq.Context[Socket]) -> Socket:
        return connect_socket(
            context, zmq.DEALER, self._address, self._setup_socket, immediate=True
        )

    def _forward(self, socket: Socket, request: FrameRequest) -> bool | None:
        """Send a request to the line and save the answer; None if the line did not answer."""
        name = request.commands.trigger_part_id
        part = digest_part_id(name) if name else bytes(16)
        # Before it is sent: a gateway that is killed now must not send it a second time.
        self._memory.save_last_trigger(
            LastTrigger(request.trigger_id, TriggerState.REQUESTED, part_digest=part)
        )
        accepted = self._request_frame(socket, request)
        if accepted is None:
            self._mark_refused(part)
        elif accepted:
            self._memory.clear_refused(part)
        refusal = TriggerRefusal.NONE if accepted else TriggerRefusal.LINE
        self._save_answer(TriggerAnswer(request.trigger_id, not accepted, refusal), part)
        return accepted

    def _save_answer(self, answer: TriggerAnswer, part: bytes) -> None:
        state = TriggerState.REFUSED if answer.refused else TriggerState.ACCEPTED
        self._memory.save_last_trigger(LastTrigger(answer.trigger_id, state, answer.refusal, part))
        self.answer = answer
        if answer.refused:
            is_stale = answer.refusal is TriggerRefusal.STALE
            is_repeat = is_stale and answer.trigger_id == self._repeated_id
            reason = "again" if is_repeat else answer.refusal.name.lower()
            self._throttled_log.warning(
                log_events.TRIGGER_REFUSED, trigger_id=answer.trigger_id, reason=reason
            )

    def _request_frame(self, socket: Socket, frame_request: FrameRequest) -> bool | None:
        """Return whether the line accepted the trigger; None if that is not known."""
        clock, commands = self._clock, frame_request.commands
        try:
            while socket.poll(0):  # an answer that came too late
                socket.recv_multipart()
            left_ns = frame_request.expires_at_ns - clock.now_ns()
            if left_ns <= 0 or not socket.poll(max(1, left_ns // NS_PER_MS), zmq.POLLOUT):
                return False  # no line to send it to
            request = TriggerRequest(
                camera=self._camera,
                part_id=commands.trigger_part_id or None,
                encoder_count=commands.trigger_encoder,
                expires_monotonic_ns=frame_request.expires_at_ns,
                boot_id=boot_id.boot_id(),
                expires_utc_ns=frame_request.expires_at_ns + read_utc_offset_ns(clock),
            )
            socket.send(encode_body(request), zmq.NOBLOCK)
        except zmq.Again:  # disconnected meanwhile; it was not sent
            return False
        except zmq.ZMQError:
            return None
        return self._receive_answer(socket, frame_request.expires_at_ns + _ANSWER_TIMEOUT_NS)

    def _receive_answer(self, socket: Socket, until_ns: int) -> bool | None:
        try:
            left_ns = until_ns - self._clock.now_ns()
            if socket.poll(max(1, left_ns // NS_PER_MS)):
                answer = decode_reply(socket.recv_multipart()[-1])
                return isinstance(answer, CommandResult) and answer.accepted
        except (zmq.ZMQError, DecodeError):
            pass
        return None


class TriggerCountReporter:
    """Reports to the line how often the PLC triggered a camera by wire. For one thread.

    A lost report has no effect: the count is cumulative.
    """

    def __init__(
        self, address: str, camera: str, clock: Clock, *, setup_socket: SocketSetup = no_encryption
    ) -> None:
        """Connect.

        Args:
            address: The line's ROUTER.
            camera: Name of the camera that the PLC triggers.
            clock: Limits the rate of the reports.
            setup_socket: Sets CURVE keys on the socket.
        """
        self._camera = camera
        self._clock = clock
        self._next_report_ns = 0
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = connect_socket(
            self._context, zmq.DEALER, address, setup_socket, immediate=True
        )

    def report(self, inputs: PlcInputs) -> None:
        """Send the PLC's count, at most twice a second, while the PLC is connected."""
        now_ns = self._clock.now_ns()
        count = inputs.commands.trigger_id if inputs.commands is not None else None
        if not inputs.is_connected or count is None or now_ns < self._next_report_ns:
            return
        message = TriggerCount(
            camera=self._camera,
            count=count,
            read_at_utc_ns=self._clock.utc_ns(),
        )
        try:
            self._socket.send(encode_body(message), zmq.NOBLOCK)
        except zmq.ZMQError:  # no line to send it to
            return
        self._next_report_ns = now_ns + _REPORT_INTERVAL_NS

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(0)
