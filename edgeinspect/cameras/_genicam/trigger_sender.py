"""Sends software triggers from a thread of its own.

A trigger is a write to the camera with an answer; a dead camera lets it wait for seconds.
Whoever asks for a trigger (the thread that also answers replay) must never wait for that.
"""

from __future__ import annotations

import threading
from collections import deque

from edgeinspect.cameras._genicam.device import Device
from edgeinspect.cameras._genicam.trigger_matching import TriggerBook
from edgeinspect.domain.clock import Clock
from edgeinspect.domain.frame import TOO_LATE, Part
from edgeinspect.errors import CameraLostError

COMMAND = "TriggerSoftware"


class TriggerSender:
    """One camera's triggers, in order. `send` from any thread; the rest is its owner's."""

    def __init__(self, device: Device, book: TriggerBook, clock: Clock) -> None:
        self._device = device
        self._book = book
        self._clock = clock
        self._waiting: deque[Part] = deque()
        self._wake = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._session = 0
        self._failed: CameraLostError | None = None
        self.sending = False
        """True while the camera is told to expose; a dead one lets that take seconds."""

    def start(self) -> None:
        """Begin a connection."""
        self._failed = None
        self.sending = False
        self._waiting.clear()
        self._wake = threading.Semaphore(0)
        self._session += 1
        self._thread = threading.Thread(
            target=self._run, args=(self._session, self._wake), name="trigger", daemon=True
        )
        self._thread.start()

    def send(self, part: Part) -> None:
        """Queue one trigger; it is on the camera's account from now on. Thread-safe."""
        with self._lock:  # the book's order is the order on the wire
            self._book.add(part, self._clock.now_ns())
            self._waiting.append(part)
        self._wake.release()

    def check(self) -> None:
        """Raise what the thread met.

        Raises:
            CameraLostError: A trigger could not be sent.
        """
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """End the connection. Does not wait for a command that a dead camera holds."""
        self._session += 1
        self._wake.release()
        self._thread = None

    def _run(self, session: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            if session != self._session:
                return
            try:
                self._send(self._waiting.popleft())
            except CameraLostError as error:
                if session == self._session:
                    self._failed = error
                return
            except IndexError:
                return

    def _send(self, part: Part) -> None:
        """One trigger, unless its part has gone by; a thread that stood still finds some."""
        if part.expired(self._clock.now_ns()):
            self._book.withdraw(part, TOO_LATE)
            return
        self.sending = True
        self._device.execute(COMMAND)
        self.sending = False
        # Else the camera took it nobody knows when, after tries of its library's own.
        if not part.expired(self._clock.now_ns()):
            self._book.note_sent(part)
