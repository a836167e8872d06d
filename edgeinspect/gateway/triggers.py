"""The PLC's triggers, carried to the line and answered, in a thread of their own; and its count
of the triggers that it gives the camera by wire, carried to the line to be compared.
"""

from __future__ import annotations

import queue
import threading

import msgspec
import zmq

from edgeinspect.client.sockets import Prepare, Socket, connect, plain
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.domain.plc import PlcCommands, PlcInputs
from edgeinspect.wire_replay import TriggerCount, Triggered, TriggerRequest, decode_answer, encode

_WAIT_MS = 500
_SAY_NS = NS_PER_S // 2


class Triggers:
    """Asks one camera for a frame whenever the trigger id changes. `hear` is one thread's."""

    def __init__(self, address: str, camera: str, *, prepare: Prepare = plain) -> None:
        """Start the thread.

        Args:
            address: The line's ROUTER.
            camera: Asked for each frame.
            prepare: Puts CURVE keys on the socket.
        """
        self.answer: tuple[int, bool] = (0, False)
        """(the last id answered, True if it was refused)"""
        self._address = address
        self._camera = camera
        self._prepare = prepare
        self._last_id: int | None = None
        self._asked: queue.SimpleQueue[PlcCommands | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)
        self._thread.start()

    def hear(self, commands: PlcCommands) -> None:
        """Look for a new trigger id. The first one heard is where the PLC stood before."""
        if self._last_id is None:
            self._last_id = commands.trigger_id
            self.answer = (commands.trigger_id, False)
        elif commands.trigger_id != self._last_id:
            self._last_id = commands.trigger_id
            self._asked.put(commands)

    def close(self) -> None:
        """End the thread."""
        self._asked.put(None)
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        context: zmq.Context[Socket] = zmq.Context()
        try:
            socket = connect(context, zmq.DEALER, self._address, self._prepare)
            while (commands := self._asked.get()) is not None:
                accepted = self._ask(socket, commands)
                self.answer = (commands.trigger_id, not accepted)
        finally:
            context.destroy(0)

    def _ask(self, socket: Socket, commands: PlcCommands) -> bool:
        """One trigger; a line that does not answer in time has refused."""
        request = TriggerRequest(
            camera=self._camera,
            part_id=commands.trigger_part_id or None,
            encoder_count=commands.trigger_encoder,
        )
        try:
            while socket.poll(0):  # an answer that came after its time
                socket.recv_multipart()
            if not socket.poll(_WAIT_MS, zmq.POLLOUT):  # no line to send it to
                return False
            socket.send(encode(request), zmq.NOBLOCK)
            if socket.poll(_WAIT_MS):
                answer = decode_answer(socket.recv_multipart()[-1])
                return isinstance(answer, Triggered) and answer.accepted
        except (zmq.ZMQError, msgspec.DecodeError):
            pass
        return False


class TriggerCounter:
    """Tells the line how often the PLC triggered a camera by wire. For one thread.

    A count that is lost on the way costs nothing: the next one says it all.
    """

    def __init__(
        self, address: str, camera: str, clock: Clock, *, prepare: Prepare = plain
    ) -> None:
        """Connect.

        Args:
            address: The line's ROUTER.
            camera: The one that the PLC triggers.
            clock: Paces the messages.
            prepare: Puts CURVE keys on the socket.
        """
        self._camera = camera
        self._clock = clock
        self._say_at_ns = 0
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = connect(self._context, zmq.DEALER, address, prepare)

    def hear(self, inputs: PlcInputs) -> None:
        """Say the PLC's count twice a second, as long as it is there to be asked."""
        now_ns = self._clock.now_ns()
        if not inputs.connected or inputs.commands is None or now_ns < self._say_at_ns:
            return
        message = TriggerCount(
            camera=self._camera,
            count=inputs.commands.trigger_id,
            read_at_utc_ns=self._clock.utc_ns(),
        )
        try:
            self._socket.send(encode(message), zmq.NOBLOCK)
        except zmq.ZMQError:  # no line to send it to
            return
        self._say_at_ns = now_ns + _SAY_NS

    def close(self) -> None:
        """Disconnect."""
        self._context.destroy(0)
