"""The interfaces of plugins: what a camera, an engine and a PLC link must provide.

A plugin is one file that exposes `Options` (a frozen msgspec.Struct) and `build(options, clock)`;
its file name is its `type:` in the configuration. What a camera may provide in addition is a
Protocol of its own here; the line finds it with isinstance. See docs/explanation/architecture.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import (
    CameraCounts,
    Grab,
    ModelSpec,
    Part,
    Pixels,
    PlcInputs,
    ProcessImage,
)


class CameraFinished(Exception):  # noqa: N818 - an end, not an error
    """The camera has delivered its last frame, as a folder that is read once. Not a fault."""


@runtime_checkable
class Camera(Protocol):
    """A source of frames. One thread opens, grabs, releases and closes it.

    `trigger` alone may be called from another thread.
    """

    @property
    def period_ns(self) -> int | None:
        """Expected time from frame to frame; None for a camera that waits for triggers."""

    def open(self) -> None:
        """Connect and start acquisition; may be called again after `close`.

        Raises:
            CameraLostError: The device cannot be reached.
            DataError: It is reachable, but what it holds cannot be used.
        """

    def grab(self, timeout_ns: int) -> Grab | None:
        """Wait for the next frame; return None if none came within `timeout_ns`.

        Raises:
            CameraLostError: The device went away.
            CameraFinished: There will be no more frames.
        """

    def release(self, grab: Grab) -> None:
        """Return the camera's buffer; `grab.pixels` is invalid afterwards."""

    def trigger(self, part: Part) -> None:
        """Request one frame of `part` by a software trigger. Thread-safe.

        The grab of that frame carries `part` with its `trigger_id`.

        Raises:
            UsageError: The camera runs free or is triggered by its own line.
        """

    def close(self) -> None:
        """Stop and disconnect; harmless when closed already."""


@runtime_checkable
class LossReportingCamera(Protocol):
    """A camera that delivers a grab marked `lost` for each frame that never arrived.

    Without it, the line takes a step of `camera_frame_id` by more than one for lost frames.
    """

    reports_lost_frames: bool


@runtime_checkable
class CameraStatistics(Protocol):
    """A camera that counts what it delivered and what it lost."""

    @property
    def counts(self) -> CameraCounts:
        """Counters since the camera was built. Thread-safe."""

    def read_temperature(self) -> float | None:
        """Read the temperature of the camera in degrees C; None if it has no sensor.

        Called from a thread that may wait, about every ten seconds.

        Raises:
            CameraLostError: The device went away.
        """


@runtime_checkable
class DelayReportingCamera(Protocol):
    """A camera that knows what it is waiting for, as a file on a network disk.

    While it is waiting it is not taken for silent; after `capture.timeout_ms` an alarm says for
    what it waits.
    """

    @property
    def waiting_for(self) -> str:
        """What the next frame is waiting for, as `reading a3.png`; empty for nothing."""


class ImageReadSettings(Protocol):
    """How the files of an image file camera are read; see `imaging.ReadSettings`."""

    @property
    def bits(self) -> int | None:
        """Significant bits of a file with 16 bits per pixel; None if they are not known."""

    @property
    def flat_end(self) -> bool:
        """True if an uncompressed image may end in rows of zeros."""


@runtime_checkable
class ImageFileCamera(Protocol):
    """A camera that reads image files. The label of each grab is the file's name."""

    @property
    def read_settings(self) -> ImageReadSettings:
        """How its images are read; known once it has been opened."""

    @property
    def skipped_files(self) -> str:
        """Which files are not read and why; empty for none."""

    @property
    def alarm(self) -> str:
        """What of the files a person must look at; empty for nothing."""

    def set_history_file(self, path: Path) -> None:
        """Save in `path` which files were inspected, if that is to outlast a restart.

        Called before `open`.
        """


@runtime_checkable
class Engine(Protocol):
    """A loaded model. One thread calls `infer`; `close` comes after the last call."""

    @property
    def spec(self) -> ModelSpec:
        """The model that this engine runs."""

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        """Run the model on one image.

        Args:
            image: uint8 (H, W, C), C-contiguous; read, neither retained nor copied.

        Returns:
            The graph's outputs in the contract's order: gate `(defect_prob (1,),)`,
            segmenter `(class_map (1, h, w), class_area_px (1, K), class_score (1, K))`;
            of contract 2, gate `(defect_prob (1,), class_prob (1, K))`, and for a
            segmenter `defect_prob (1,)` as the fourth. They are the engine's own buffers,
            valid until the next `infer`.

        Raises:
            EngineFault: The inference failed; the engine may be used again.
        """

    def close(self) -> None:
        """Free the engine; harmless when closed already."""


@runtime_checkable
class PlcLink(Protocol):
    """A connection to a PLC. Called by the gateway's one thread; no call waits for the PLC.

    A link has its own thread, and retries indefinitely with its own back-off. A process image
    replaces the one before: the gateway writes the next result only when this one has arrived.
    """

    @property
    def acknowledges(self) -> bool:
        """True if the PLC writes the id of each result that it has accepted.

        Without, a result is complete when the link has delivered it.
        """

    @property
    def part_id_bytes(self) -> int | None:
        """Longest part id that the link can carry, in UTF-8; None for any."""

    def open(self) -> None:
        """Start; the PLC need not be reachable yet.

        Raises:
            ConfigError: The address can never work, such as a port that is in use.
            MissingExtraError: A library is not installed.
        """

    def write(self, image: ProcessImage) -> None:
        """Make `image` what the PLC sees, as soon as possible. Does not wait."""

    def poll(self) -> PlcInputs:
        """Return what is known of the PLC now. Does not wait, never raises."""

    def close(self) -> None:
        """Stop within a second, so that the PLC sees it; harmless when closed already."""
