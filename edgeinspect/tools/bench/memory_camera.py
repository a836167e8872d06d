"""A camera that shows pictures from memory: when it is told to, and as fast as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.domain import NS_PER_S, Clock, FrameShape, Grab, Part, Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES, load_declaration, read_image, render_strip
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.learning.datasets import find_bit_depth
from edgeinspect.system import escape_name

_SEED = 2026


@dataclass(frozen=True, slots=True)
class Playback:
    """One showing: `count` pictures from number `first` on."""

    first: int
    count: int
    period_ns: int
    """Time from frame to frame; 0 for as fast as the line takes them."""


class MemoryCamera:
    """Shows pictures that are in memory already. See `ports.Camera` for threads.

    `play` may be called from another thread, when the showing before has ended.
    """

    period_ns: int | None = None
    """None: a camera that shows nothing between two showings is not lost."""

    def __init__(self, pictures: Sequence[Pixels], clock: Clock) -> None:
        self._pictures = pictures
        self._clock = clock
        self._queue: list[Playback] = []
        self._queued = threading.Semaphore(0)
        self._playback: Playback | None = None
        self._delivered = 0
        self._due_ns = 0
        self._frame_id = 0

    def play(self, first: int, count: int, rate_hz: float = 0.0) -> None:
        """Show `count` pictures, the first of them number `first`; at a rate, or at once."""
        self._queue.append(Playback(first, count, round(NS_PER_S / rate_hz) if rate_hz else 0))
        self._queued.release()

    def open(self) -> None:
        """Nothing to connect."""

    def grab(self, timeout_ns: int) -> Grab | None:
        if self._playback is None:
            if not self._queued.acquire(timeout=timeout_ns / NS_PER_S):
                return None
            self._playback, self._delivered = self._queue.pop(0), 0
            self._due_ns = self._clock.now_ns() + self._playback.period_ns
        show = self._playback
        at_ns = now_ns = self._clock.now_ns()
        if show.period_ns:
            at_ns = self._due_ns
            if at_ns > now_ns:
                self._clock.sleep_until(min(at_ns, now_ns + timeout_ns))
                if at_ns > now_ns + timeout_ns:
                    return None
            self._due_ns += show.period_ns
        picture = self._pictures[(show.first + self._delivered) % len(self._pictures)]
        self._delivered += 1
        self._frame_id += 1
        if self._delivered == show.count:
            self._playback = None
        return Grab(picture, self._frame_id, at_ns)

    def release(self, grab: Grab) -> None:
        """Nothing to give back: the pictures stay."""

    def trigger(self, part: Part) -> None:
        """Shows are asked for with `play`."""

    def close(self) -> None:
        """Nothing is held open."""


def synthetic_images(
    count: int, shape: FrameShape, progress: Callable[[int], None] = lambda done: None
) -> list[Pixels]:
    """Synthetic strip of the models' size, rendered from a seed that no model was trained on."""
    pictures = []
    for index in range(count):
        image = render_strip(_SEED, index, shape.height_px, shape.width_px).image
        picture = np.repeat(image[:, :, None], shape.channels, axis=2)
        pictures.append(np.ascontiguousarray(picture))
        progress(index + 1)
    return pictures


def folder_images(folder: Path, count: int, shape: FrameShape, color: str) -> list[Pixels]:
    """Pictures of a folder, brought to the models' size as the line would.

    Raises:
        DataError: It holds none, or one that cannot be read.
    """
    if not folder.is_dir():
        raise DataError("is not a folder", where=str(folder))
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[
        :count
    ]
    if not paths:
        raise DataError("holds no pictures", where=str(folder), remedy="PNG, JPEG, BMP or TIFF")
    pictures = []
    reading = find_bit_depth(paths, load_declaration(folder), escape_name(folder)).read_settings(
        color
    )
    for path in paths:
        picture = read_image(path, reading)
        if picture.shape != shape.dims:
            picture = letterbox(picture, shape.height_px, shape.width_px)[0]
        pictures.append(np.ascontiguousarray(picture.reshape(shape.dims)))
    return pictures
