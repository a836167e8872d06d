"""A PLC link that keeps a session with a peer, in a thread: writes images and reads commands.

For protocols in which the gateway connects and the peer answers (Modbus client, S7, MQTT).
Retries indefinitely with a back-off and never makes the gateway wait. An image is skipped if
there is a newer one; the handshake does not continue before its result has arrived.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from edgeinspect.domain import NS_PER_MS, Clock, PlcCommands, PlcInputs, ProcessImage
from edgeinspect.plclinks._input_age import AckTracker

_BACKOFF_MIN_MS = 100
_BACKOFF_MAX_MS = 2_000
_ANSWER_TIMEOUT_NS = 500 * NS_PER_MS


class PlcSession(Protocol):
    """A connection to a peer. For one thread; any exception ends it."""

    @property
    def not_ready_reason(self) -> str:
        """Why nothing may be written yet, as text; empty if it may."""

    def write(self, image: ProcessImage) -> None:
        """Write an image; returns when the peer has it."""

    def read_commands(self) -> PlcCommands | None:
        """Return what the peer wrote last; None if it never wrote."""

    def close(self) -> None:
        """Disconnect; never raises."""


class SessionLink:
    """A `ports.PlcLink` over sessions. `write` and `poll` are thread-safe."""

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
        """Create a link that is not open yet.

        Args:
            connect: Opens a session; may raise any exception.
            clock: For the pauses.
            poll_ms: Time between two reads of the commands.
            where: The PLC's address, for messages.
            acknowledges: See `ports.PlcLink`.
            part_id_bytes: See `ports.PlcLink`.
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
        """Revision of the newest image that any session has written."""
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
        # A library may wait for seconds before it reports an unplugged cable; the handshake's
        # timeout must not run meanwhile.
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
            except Exception as error:  # a library may raise any exception
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
        """Write new images and read commands until an exception or `close`."""
        written = -1
        self._read_commands(session)  # what was written before this session shows anything
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
        # The last image of a gateway that stops is its fail-safe image.
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
        text = (str(error) or type(error).__name__)[:300]
        self._inputs = PlcInputs(False, -1, None, f"{self._where}: {text}")

    def _back_off(self, pause_ms: int) -> None:
        until_ns = self._clock.now_ns() + pause_ms * NS_PER_MS
        while not self._stop and self._clock.now_ns() < until_ns:
            self._wake_event.wait_until(until_ns)
