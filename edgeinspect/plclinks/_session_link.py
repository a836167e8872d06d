"""The courier: a thread that keeps a session with a PLC, writes images and reads commands.

For protocols where the gateway calls and the peer answers (Modbus client, S7, MQTT). It retries for
ever with a back-off and never makes the gateway wait. An image that was overtaken by a
newer one is not written; the handshake does not go on before its result has arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edgeinspect.domain.clock import NS_PER_MS, Clock
from edgeinspect.domain.plc import PlcCommands, PlcImage, PlcInputs
from edgeinspect.plclinks._ack_order import AckOrder

_FIRST_MS = 100
_MAX_MS = 2_000
_STALE_NS = 500 * NS_PER_MS


class Session(Protocol):
    """A connection to a peer. One thread; any exception ends it."""

    @property
    def waits_for(self) -> str:
        """Why nothing may be shown yet, in words; empty if it may."""

    def show(self, image: PlcImage) -> None:
        """Returns when the peer has it."""

    def commands(self) -> PlcCommands | None:
        """What the peer wrote last; None if it never wrote."""

    def close(self) -> None:
        """Disconnect; never raises."""


class Courier:
    """A `ports.PlcLink` over sessions. `show` and `poll` are thread-safe."""

    def __init__(
        self,
        connect: Callable[[], Session],
        clock: Clock,
        *,
        poll_ms: float,
        where: str,
        acknowledges: bool = True,
        part_id_bytes: int | None = None,
    ) -> None:
        """Nothing runs yet.

        Args:
            connect: Makes a session, or raises anything.
            clock: Of the pauses.
            poll_ms: Time between two reads of the commands.
            where: The PLC's address, for messages.
            acknowledges: As `ports.PlcLink` says.
            part_id_bytes: As `ports.PlcLink` says.
        """
        self.acknowledges = acknowledges
        self.part_id_bytes = part_id_bytes
        self._connect = connect
        self._clock = clock
        self._poll_ns = round(poll_ms * NS_PER_MS)
        self._where = where
        self._alarm = clock.alarm()
        self._image: PlcImage | None = None
        self._inputs = PlcInputs(problem="not connected yet")
        self._heard_at_ns = 0
        self._acks = AckOrder()
        self._reached = -1
        """Revision of the newest image that any session has brought there."""
        self._stop = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="plc", daemon=True)
        self._thread.start()

    def show(self, image: PlcImage) -> None:
        self._image = image
        self._alarm.ring()

    def poll(self) -> PlcInputs:
        inputs = self._inputs
        # A library may wait for seconds before it says that a cable is out; the timeout of
        # the handshake must not run meanwhile.
        if inputs.connected and self._clock.now_ns() - self._heard_at_ns > _STALE_NS:
            problem = f"{self._where}: no answer for {_STALE_NS // NS_PER_MS} ms"
            return PlcInputs(False, inputs.delivered, None, problem)
        return inputs

    def close(self) -> None:
        self._stop = True
        self._alarm.ring()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def _run(self) -> None:
        pause_ms = _FIRST_MS
        while not self._stop:
            try:
                session = self._connect()
            except Exception as error:  # whatever a library raises, the line goes on
                self._lose(error)
            else:
                try:
                    pause_ms = _FIRST_MS
                    self._serve(session)
                except Exception as error:
                    self._lose(error)
                finally:
                    session.close()
            if not self._stop:
                self._rest(pause_ms)
                pause_ms = min(2 * pause_ms, _MAX_MS)

    def _serve(self, session: Session) -> None:
        """Write what is new, read what the PLC says, until something breaks."""
        written = -1
        self._ask(session)  # what stands there before anything of this session is shown
        while not self._stop:
            waits_for = session.waits_for
            if waits_for:
                self._inputs = PlcInputs(False, -1, None, f"{self._where}: {waits_for}")
                self._alarm.wait_until(self._clock.now_ns() + self._poll_ns)
                continue
            image = self._image
            if image is not None and image.revision != written:
                session.show(image)
                written = self._reached = image.revision
            commands = self._ask(session)
            self._heard_at_ns = self._clock.now_ns()
            self._inputs = PlcInputs(True, written, commands)
            if self._image is image:
                self._alarm.wait_until(self._clock.now_ns() + self._poll_ns)
        # What was shown last is the fail-safe image of a gateway that stops.
        image = self._image
        if not session.waits_for and image is not None and image.revision != written:
            session.show(image)
            self._inputs = PlcInputs(True, image.revision, self._inputs.commands)

    def _ask(self, session: Session) -> PlcCommands | None:
        commands = session.commands()
        if commands is None:
            return None
        after = self._acks.after(commands.results_ack, self._reached)
        return replace(commands, ack_after=after)

    def _lose(self, error: Exception) -> None:
        words = (str(error) or type(error).__name__)[:300]
        self._inputs = PlcInputs(False, -1, None, f"{self._where}: {words}")

    def _rest(self, pause_ms: int) -> None:
        until_ns = self._clock.now_ns() + pause_ms * NS_PER_MS
        while not self._stop and self._clock.now_ns() < until_ns:
            self._alarm.wait_until(until_ns)
