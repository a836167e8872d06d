"""A camera that delivers images from memory on request, at a given rate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.domain import NS_PER_S, Clock, FrameShape, Grab, Part, Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging import (
    IMAGE_SUFFIXES,
    letterbox_image,
    load_declaration,
    read_image,
    render_strip,
)
from edgeinspect.learning.datasets import find_bit_depth
from edgeinspect.system import escape_name

_SEED = 2026


@dataclass(frozen=True, slots=True)
class FramePlayback:
    """One request: `count` images from number `first` on."""

    first: int
    count: int
    period_ns: int
    """Time between frames; 0 for as fast as the line accepts them."""


class MemoryCamera:
    """Delivers images that are in memory. See `ports.Camera` for threads.

    `play` may be called from another thread once the previous playback has ended.
    """

    period_ns: int | None = None
    """None: silence between two playbacks is not a lost camera."""

    def __init__(self, images: Sequence[Pixels], clock: Clock) -> None:
        self._images = images
        self._clock = clock
        self._queue: list[FramePlayback] = []
        self._queued = threading.Semaphore(0)
        self._playback: FramePlayback | None = None
        self._delivered = 0
        self._due_ns = 0
        self._frame_id = 0

    def play(self, first: int, count: int, rate_hz: float = 0.0) -> None:
        """Deliver `count` images from number `first` on, at a rate or as fast as possible."""
        self._queue.append(FramePlayback(first, count, round(NS_PER_S / rate_hz) if rate_hz else 0))
        self._queued.release()

    def open(self) -> None:
        """Nothing to connect."""

    def grab(self, timeout_ns: int) -> Grab | None:
        if self._playback is None:
            if not self._queued.acquire(timeout=timeout_ns / NS_PER_S):
                return None
            self._playback, self._delivered = self._queue.pop(0), 0
            self._due_ns = self._clock.now_ns() + self._playback.period_ns
        playback = self._playback
        at_ns = now_ns = self._clock.now_ns()
        if playback.period_ns:
            at_ns = self._due_ns
            if at_ns > now_ns:
                self._clock.sleep_until(min(at_ns, now_ns + timeout_ns))
                if at_ns > now_ns + timeout_ns:
                    return None
            self._due_ns += playback.period_ns
        image = self._images[(playback.first + self._delivered) % len(self._images)]
        self._delivered += 1
        self._frame_id += 1
        if self._delivered == playback.count:
            self._playback = None
        return Grab(image, self._frame_id, at_ns)

    def release(self, grab: Grab) -> None:
        """Nothing to release: the images stay in memory."""

    def trigger(self, part: Part) -> None:
        """Ignored: playbacks are requested with `play`."""

    def close(self) -> None:
        """Nothing to close."""


def synthetic_images(
    count: int, shape: FrameShape, progress: Callable[[int], None] = lambda done: None
) -> list[Pixels]:
    """Return synthetic strip of the models' size, from a seed that was not used in training."""
    images = []
    for index in range(count):
        strip = render_strip(_SEED, index, shape.height_px, shape.width_px).image
        image = np.repeat(strip[:, :, None], shape.channels, axis=2)
        images.append(np.ascontiguousarray(image))
        progress(index + 1)
    return images


def folder_images(folder: Path, count: int, shape: FrameShape, color: str) -> list[Pixels]:
    """Return the images of a folder, letterboxed to the models' size as the line does.

    Raises:
        DataError: The folder has no images, or one cannot be read.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", where=str(folder))
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[
        :count
    ]
    if not paths:
        raise DataError("contains no images", where=str(folder), remedy="PNG, JPEG, BMP or TIFF")
    images = []
    settings = find_bit_depth(paths, load_declaration(folder), escape_name(folder)).read_settings(
        color
    )
    for path in paths:
        image = read_image(path, settings)
        if image.shape != shape.dims:
            image = letterbox_image(image, shape.height_px, shape.width_px)[0]
        images.append(np.ascontiguousarray(image.reshape(shape.dims)))
    return images
