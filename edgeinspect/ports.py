"""The three ports: what a camera, an engine and a PLC link must be able to do.

A part is one file that exposes `Options` (a frozen msgspec.Struct) and
`build(options, clock)`; its file name is its `type:` in the configuration.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Grab, ModelSpec, Part, Pixels, PlcInputs, ProcessImage


class CameraFinished(Exception):  # noqa: N818 - an end, not an error
    """The camera has delivered its last frame (a folder read once). Not a fault."""


@runtime_checkable
class Camera(Protocol):
    """A source of frames. One thread opens, grabs, releases and closes it.

    `trigger` alone may be called from another thread.

    A camera may have `tells_losses = True`: then it delivers a grab marked `lost` for each
    frame that never came, and steps of its count mean nothing. It may have `counts`
    (`domain.camera.CameraCounts`), readable from any thread.
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
        """Wait for the next frame; None when none came in `timeout_ns`.

        Raises:
            CameraLostError: The device went away.
            CameraFinished: There will be no more frames.
        """

    def release(self, grab: Grab) -> None:
        """Give the camera's buffer back; `grab.pixels` is invalid from here on."""

    def trigger(self, part: Part) -> None:
        """Ask for one frame of `part` (software trigger). Thread-safe.

        Raises:
            UsageError: The camera runs free or is triggered by its own line.
        """

    def close(self) -> None:
        """Stop and disconnect; harmless when closed already."""


@runtime_checkable
class Engine(Protocol):
    """A loaded model. One thread calls `infer`; `close` comes after the last call."""

    @property
    def spec(self) -> ModelSpec:
        """The model this engine runs."""

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        """Judge one frame.

        Args:
            image: uint8 (H, W, C), C-contiguous; read, not kept, not copied by us.

        Returns:
            The graph's outputs in the contract's order: gate `(defect_prob (1,),)`,
            segmenter `(class_map (1, h, w), class_area_px (1, K), class_score (1, K))`.
            They are the engine's own buffers, valid until the next `infer`.

        Raises:
            EngineFault: The inference failed; the engine may be used again.
        """

    def close(self) -> None:
        """Free the engine; harmless when closed already."""


@runtime_checkable
class PlcLink(Protocol):
    """A way to a PLC. The gateway's one thread calls it; no call ever waits for the PLC.

    A link has its own thread and retries indefinitely with its own back-off. An image
    replaces the one before: the gateway shows the next result only when this one arrived.
    """

    @property
    def acknowledges(self) -> bool:
        """True if the PLC writes the id of each result it has taken.

        Without, a result is applied when the link has delivered it.
        """

    @property
    def part_id_bytes(self) -> int | None:
        """Longest part id that the link can carry, in UTF-8; None for any."""

    def open(self) -> None:
        """Start; the PLC need not be there yet.

        Raises:
            ConfigError: The address can never work, as a port that is taken.
            MissingExtraError: A library is not installed.
        """

    def write(self, image: ProcessImage) -> None:
        """Make `image` what the PLC sees, as soon as it can be. Does not wait."""

    def poll(self) -> PlcInputs:
        """What is known of the PLC now. Does not wait, never raises."""

    def close(self) -> None:
        """Stop within a second, so that the PLC sees it; harmless when closed already."""
