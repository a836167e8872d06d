"""Sends software triggers from a separate thread.

A software trigger is a register write that the camera acknowledges; with a dead camera it takes
seconds to time out. `TriggerSender.send` must not wait for that: its caller also serves the
replay socket.
"""

from __future__ import annotations

import threading
from collections import deque

from edgeinspect.cameras._genicam.device import GenicamDevice
from edgeinspect.cameras._genicam.trigger_matching import Trigger, TriggerMatcher
from edgeinspect.domain import TRIGGER_EXPIRED, Clock, Part
from edgeinspect.errors import CameraLostError

TRIGGER_COMMAND = "TriggerSoftware"


class TriggerSender:
    """Sends one camera's triggers in order. Only `send` is thread-safe."""

    def __init__(self, device: GenicamDevice, matcher: TriggerMatcher, clock: Clock) -> None:
        self._device = device
        self._matcher = matcher
        self._clock = clock
        self._queue: deque[Trigger] = deque()
        self._wake = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._generation = 0
        self._error: CameraLostError | None = None
        self.is_sending = False
        """True while the camera is sent a trigger, which may take seconds if it is dead."""

    def start(self) -> None:
        """Start the thread for a new connection."""
        self._error = None
        self.is_sending = False
        self._queue.clear()
        self._wake = threading.Semaphore(0)
        self._generation += 1
        threading.Thread(
            target=self._run, args=(self._generation, self._wake), name="trigger", daemon=True
        ).start()

    def send(self, part: Part) -> None:
        """Queue one trigger. It will end in a frame or a loss. Thread-safe."""
        with self._lock:  # the matcher's order is the order of sending
            self._queue.append(self._matcher.add(part, self._clock.now_ns()))
        self._wake.release()

    def raise_error(self) -> None:
        """Raise the error of the thread, if there is one.

        Raises:
            CameraLostError: A trigger could not be sent.
        """
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop the thread. Does not wait for a command that a dead camera does not answer."""
        self._generation += 1
        self._wake.release()

    def _run(self, generation: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            if generation != self._generation:
                return
            try:
                self._send(self._queue.popleft())
            except CameraLostError as error:
                if generation == self._generation:
                    self._error = error
                return
            except IndexError:
                return

    def _send(self, trigger: Trigger) -> None:
        """Send one trigger unless its part has expired, as it may after a stall of the thread."""
        if trigger.part.is_expired(self._clock.now_ns()):
            self._matcher.cancel(trigger, TRIGGER_EXPIRED)
            return
        self.is_sending = True
        self._device.execute(TRIGGER_COMMAND)
        self.is_sending = False
        # After retries of the library, the instant at which the camera was triggered is unknown.
        if not trigger.part.is_expired(self._clock.now_ns()):
            trigger.is_sent = True
