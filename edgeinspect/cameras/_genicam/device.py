"""What the GenICam cameras have in common: a device with features, and a stream of buffers.

`aravis`, `genicam` and `pylon` each speak to one library as a `Device`; everything that is
not the library's own (settings, pixel formats, triggers, clocks, losses) is in
`_device_camera.py`, once.
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
"""A feature's value as a configuration writes it."""


@dataclass(frozen=True, slots=True)
class DeviceBuffer:
    """One buffer from the device.

    `data` belongs to the device until `Device.requeue_buffer(token)`.
    """

    token: object
    """What `give_back` wants."""
    frame_id: int
    """The device's count as it is on the wire; may wrap."""
    arrived_at_ns: int
    """Monotonic instant at which the host saw the frame begin or end."""
    device_ns: int | None = None
    """The device's own time stamp; None if it gives none."""
    data: NDArray[np.uint8] | None = None
    """Flat bytes of the picture; None if it is incomplete."""
    height_px: int = 0
    width_px: int = 0
    pixel_format: str = ""
    """Name by the standard's Pixel Format Naming Convention, as `Mono8`."""
    problem: str = ""
    """Why `data` is None."""


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What the library counted on one connection."""

    resends: int = 0
    underruns: int = 0

    def __add__(self, other: StreamStatistics) -> StreamStatistics:
        return StreamStatistics(self.resends + other.resends, self.underruns + other.underruns)


class Device(Protocol):
    """One camera behind one vendor library.

    One thread calls it, but for `execute` and `read`, which other threads may call too.
    Every call raises `CameraLostError` when the device is gone.
    """

    @property
    def where(self) -> str:
        """The device in words, for errors."""

    @property
    def frame_id_max(self) -> int:
        """Highest frame id, after which it begins again at 1 (GigE Vision 1); 0 for never."""

    def connect(self) -> None:
        """Open the device, stream not running."""

    def read(self, feature: str) -> FeatureValue | None:
        """A feature's value; None if the device does not have it, or not now."""

    def write(self, feature: str, value: FeatureValue) -> None:
        """Set a feature.

        Raises:
            ValueError: The device refuses the value; says why.
        """

    def execute(self, command: str) -> None:
        """Run a command feature."""

    def start(self) -> None:
        """Allocate buffers and begin to stream."""

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        """The next buffer; None after `timeout_ns`."""

    def requeue_buffer(self, token: object) -> None:
        """Lend a buffer to the device again; harmless if its stream is over."""

    def stream_statistics(self) -> StreamStatistics:
        """The library's counters of this connection."""

    def close(self) -> None:
        """Stop and let go, within 100 ms even if the device is dead; harmless when closed."""


def close_with_timeout(
    errors: type[Exception] | tuple[type[Exception], ...], *steps: Callable[[], Any]
) -> None:
    """Take the steps that end a connection, for 2 s at the most.

    A library whose camera was unplugged may fail, or never answer; its thread is then left
    behind.
    """

    def close() -> None:
        with contextlib.suppress(*(errors if isinstance(errors, tuple) else (errors,))):
            for step in steps:
                step()

    closing = threading.Thread(target=close, name="camera-close", daemon=True)
    closing.start()
    closing.join(2)
