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

from edgeinspect.domain import NS_PER_MS, Clock, PlcCommands, PlcInputs, ProcessImage
from edgeinspect.plclinks._ack_order import AckTracker

_BACKOFF_MIN_MS = 100
_BACKOFF_MAX_MS = 2_000
_ANSWER_TIMEOUT_NS = 500 * NS_PER_MS


class PlcSession(Protocol):
    """A connection to a peer. One thread; any exception ends it."""

    @property
    def not_ready_reason(self) -> str:
        """Why nothing may be shown yet, in words; empty if it may."""

    def write(self, image: ProcessImage) -> None:
        """Returns when the peer has it."""

    def read_commands(self) -> PlcCommands | None:
        """What the peer wrote last; None if it never wrote."""

    def close(self) -> None:
        """Disconnect; never raises."""


class SessionLink:
    """A `ports.PlcLink` over sessions. `show` and `poll` are thread-safe."""

    def __init__(
        self,
        connect: Callable[[], PlcSession],
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
        self._wake_event = clock.wake_event()
        self._image: ProcessImage | None = None
        self._inputs = PlcInputs(problem="not connected yet")
        self._last_answer_ns = 0
        self._acks = AckTracker()
        self._delivered_revision = -1
        """Revision of the newest image that any session has brought there."""
        self._stop = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="plc", daemon=True)
        self._thread.start()

    def write(self, image: ProcessImage) -> None:
        self._image = image
        self._wake_event.set()

    def poll(self) -> PlcInputs:
        inputs = self._inputs
        # A library may wait for seconds before it says that a cable is out; the timeout of
        # the handshake must not run meanwhile.
        if inputs.is_connected and self._clock.now_ns() - self._last_answer_ns > _ANSWER_TIMEOUT_NS:
            problem = f"{self._where}: no answer for {_ANSWER_TIMEOUT_NS // NS_PER_MS} ms"
            return PlcInputs(False, inputs.delivered_revision, None, problem)
        return inputs

    def close(self) -> None:
        self._stop = True
        self._wake_event.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def _run(self) -> None:
        pause_ms = _BACKOFF_MIN_MS
        while not self._stop:
            try:
                session = self._connect()
            except Exception as error:  # whatever a library raises, the line goes on
                self._on_disconnect(error)
            else:
                try:
                    pause_ms = _BACKOFF_MIN_MS
                    self._serve(session)
                except Exception as error:
                    self._on_disconnect(error)
                finally:
                    session.close()
            if not self._stop:
                self._back_off(pause_ms)
                pause_ms = min(2 * pause_ms, _BACKOFF_MAX_MS)

    def _serve(self, session: PlcSession) -> None:
        """Write what is new, read what the PLC says, until something breaks."""
        written = -1
        self._read_commands(session)  # what stands there before anything of this session is shown
        while not self._stop:
            waits_for = session.not_ready_reason
            if waits_for:
                self._inputs = PlcInputs(False, -1, None, f"{self._where}: {waits_for}")
                self._wake_event.wait_until(self._clock.now_ns() + self._poll_ns)
                continue
            image = self._image
            if image is not None and image.revision != written:
                session.write(image)
                written = self._delivered_revision = image.revision
            commands = self._read_commands(session)
            self._last_answer_ns = self._clock.now_ns()
            self._inputs = PlcInputs(True, written, commands)
            if self._image is image:
                self._wake_event.wait_until(self._clock.now_ns() + self._poll_ns)
        # What was shown last is the fail-safe image of a gateway that stops.
        image = self._image
        if not session.not_ready_reason and image is not None and image.revision != written:
            session.write(image)
            self._inputs = PlcInputs(True, image.revision, self._inputs.commands)

    def _read_commands(self, session: PlcSession) -> PlcCommands | None:
        commands = session.read_commands()
        if commands is None:
            return None
        after = self._acks.revision_at_ack(commands.results_ack, self._delivered_revision)
        return replace(commands, ack_after=after)

    def _on_disconnect(self, error: Exception) -> None:
        words = (str(error) or type(error).__name__)[:300]
        self._inputs = PlcInputs(False, -1, None, f"{self._where}: {words}")

    def _back_off(self, pause_ms: int) -> None:
        until_ns = self._clock.now_ns() + pause_ms * NS_PER_MS
        while not self._stop and self._clock.now_ns() < until_ns:
            self._wake_event.wait_until(until_ns)
