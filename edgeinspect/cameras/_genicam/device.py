"""The interface of a GenICam device: features, and a stream of buffers.

`aravis`, `genicam` and `pylon` each implement `GenicamDevice` for one library. What does not
depend on the library (settings, pixel formats, triggers, clocks, losses) is in `GenicamCamera`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FeatureValue = bool | int | float | str
"""A feature's value as in the configuration."""


@dataclass(frozen=True, slots=True)
class DeviceBuffer:
    """One buffer from the device. `data` is valid until `GenicamDevice.requeue_buffer(token)`."""

    token: object
    """The argument of `requeue_buffer`."""
    frame_id: int
    """The device's frame counter as transmitted; may wrap."""
    arrived_at_ns: int
    """Monotonic instant at which the host received the frame."""
    device_ns: int | None = None
    """Time stamp of the device; None if it gives none."""
    data: NDArray[np.uint8] | None = None
    """Flat bytes of the image; None if it is incomplete."""
    height_px: int = 0
    width_px: int = 0
    pixel_format: str = ""
    """Name by the Pixel Format Naming Convention, such as `Mono8`."""
    problem: str = ""
    """Why `data` is None."""


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """Counters of the library for one connection."""

    resends: int = 0
    underruns: int = 0

    def __add__(self, other: StreamStatistics) -> StreamStatistics:
        return StreamStatistics(self.resends + other.resends, self.underruns + other.underruns)


class GenicamDevice(Protocol):
    """One camera behind one vendor library.

    One thread calls it, except for `execute` and `read`, which are thread-safe. Every method
    raises `CameraLostError` when the device is gone.
    """

    @property
    def where(self) -> str:
        """Name of the device, for errors."""

    @property
    def frame_id_max(self) -> int:
        """Highest frame id, after which 1 follows (GigE Vision 1); 0 if ids do not wrap."""

    def connect(self) -> None:
        """Open the device without starting the stream."""

    def read(self, feature: str) -> FeatureValue | None:
        """Return a feature's value; None if the device does not have it, or not in this state."""

    def write(self, feature: str, value: FeatureValue) -> None:
        """Set a feature.

        Raises:
            ValueError: The device refuses the value.
        """

    def execute(self, command: str) -> None:
        """Execute a command feature."""

    def start(self) -> None:
        """Allocate buffers and start the stream."""

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        """Return the next buffer; None after `timeout_ns`."""

    def requeue_buffer(self, token: object) -> None:
        """Queue a buffer for filling again; no effect if its stream is closed."""

    def stream_statistics(self) -> StreamStatistics:
        """Return the library's counters of this connection."""

    def close(self) -> None:
        """Stop and disconnect, within 100 ms even if the device is dead. May be repeated."""


def close_with_timeout(
    errors: type[Exception] | tuple[type[Exception], ...], *steps: Callable[[], Any]
) -> None:
    """Run the steps that close a connection, for at most 2 s.

    A library whose camera was unplugged may fail or never return; its thread is then abandoned.
    """

    def close() -> None:
        with contextlib.suppress(*(errors if isinstance(errors, tuple) else (errors,))):
            for step in steps:
                step()

    closing = threading.Thread(target=close, name="camera-close", daemon=True)
    closing.start()
    closing.join(2)


class WrappingCounter:
    """Continues a frame counter that wraps. For one thread.

    GigE Vision 1 counts from 1 to 65535 and again from 1; 0 means "no frame".

    Args:
        max_value: Highest value of the counter; 0 if it does not wrap.
    """

    def __init__(self, max_value: int) -> None:
        self._max_value = max_value
        self._last: int | None = None

    def unwrap(self, wrapped: int) -> int:
        """Return the value without wraps that is nearest to the last one."""
        count = wrapped
        if self._max_value and self._last is not None:
            wraps = round((self._last - wrapped) / self._max_value)
            count = wrapped + max(wraps, 0) * self._max_value
        if self._last is None or count > self._last:
            self._last = count
        return count
