"""Sends software triggers from a thread of its own.

A trigger is a write to the camera with an answer; a dead camera lets it wait for seconds.
Whoever asks for a trigger (the thread that also answers replay) must never wait for that.
"""

from __future__ import annotations

import threading
from collections import deque

from edgeinspect.cameras._genicam.device import Device
from edgeinspect.cameras._genicam.trigger_matching import TriggerMatcher
from edgeinspect.domain import TRIGGER_EXPIRED, Clock, Part
from edgeinspect.errors import CameraLostError

TRIGGER_COMMAND = "TriggerSoftware"


class TriggerSender:
    """One camera's triggers, in order. `send` from any thread; the rest is its owner's."""

    def __init__(self, device: Device, matcher: TriggerMatcher, clock: Clock) -> None:
        self._device = device
        self._matcher = matcher
        self._clock = clock
        self._waiting: deque[Part] = deque()
        self._wake = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._generation = 0
        self._error: CameraLostError | None = None
        self.is_sending = False
        """True while the camera is told to expose; a dead one lets that take seconds."""

    def start(self) -> None:
        """Begin a connection."""
        self._error = None
        self.is_sending = False
        self._waiting.clear()
        self._wake = threading.Semaphore(0)
        self._generation += 1
        self._thread = threading.Thread(
            target=self._run, args=(self._generation, self._wake), name="trigger", daemon=True
        )
        self._thread.start()

    def send(self, part: Part) -> None:
        """Queue one trigger; it is on the camera's account from now on. Thread-safe."""
        with self._lock:  # the book's order is the order on the wire
            self._matcher.add(part, self._clock.now_ns())
            self._waiting.append(part)
        self._wake.release()

    def raise_error(self) -> None:
        """Raise what the thread met.

        Raises:
            CameraLostError: A trigger could not be sent.
        """
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the connection. Does not wait for a command that a dead camera holds."""
        self._generation += 1
        self._wake.release()
        self._thread = None

    def _run(self, generation: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            if generation != self._generation:
                return
            try:
                self._send(self._waiting.popleft())
            except CameraLostError as error:
                if generation == self._generation:
                    self._error = error
                return
            except IndexError:
                return

    def _send(self, part: Part) -> None:
        """One trigger, unless its part has gone by; a thread that stood still finds some."""
        if part.is_expired(self._clock.now_ns()):
            self._matcher.cancel(part, TRIGGER_EXPIRED)
            return
        self.is_sending = True
        self._device.execute(TRIGGER_COMMAND)
        self.is_sending = False
        # Else the camera took it nobody knows when, after tries of its library's own.
        if not part.is_expired(self._clock.now_ns()):
            self._matcher.mark_sent(part)
