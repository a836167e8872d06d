"""Orders from outside: trigger a camera, hear how often the PLC did, or send a challenge part."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeinspect.domain import NS_PER_MS, NS_PER_S, TRIGGER_EXPIRED, Clock, Part, read_utc_offset_ns
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging import (
    LINE_PIXELS_MAX,
    ReadSettings,
    image_label,
    load_declaration,
    read_image,
)
from edgeinspect.pipeline.capture.camera_thread import CaptureThread
from edgeinspect.pipeline.capture.pending_triggers import PendingTrigger
from edgeinspect.system import escape_name, unescape_name
from edgeinspect.wire import TriggerCount

_STAMP_AGE_MAX_NS = 10 * NS_PER_S
"""A stamp that is older says that the sender's clock is wrong."""


class CommandHandler:
    """Finds the camera that an order is for. Thread-safe."""

    def __init__(
        self,
        capture_threads: Sequence[CaptureThread],
        color: str,
        challenge_folder: str | None,
        clock: Clock,
    ) -> None:
        self._capture_threads = capture_threads
        self._color = color
        self._challenge_folder = challenge_folder
        self._clock = clock

    def trigger(self, camera: str, part: Part) -> PendingTrigger:
        """Ask one camera for one frame.

        Raises:
            UsageError: There is no such camera, it takes no trigger, the part's id is none,
                or the trigger has expired.
            CameraLostError: It is away.
        """
        if "\0" in (part.part_id or ""):
            raise UsageError(
                "the part's id has a zero character", remedy="Most readers end a text there"
            )
        capture = self._capture_of(camera)
        if part.is_expired(self._clock.now_ns()):
            raise UsageError(TRIGGER_EXPIRED)
        return capture.trigger(part)

    def add_trigger_count(self, message: TriggerCount) -> None:
        """What the PLC counted of one camera's triggers.

        Raises:
            UsageError: There is no such camera.
        """
        audit, clock = self._capture_of(message.camera).trigger_audit, self._clock
        at_ns = now_ns = clock.now_ns()
        if message.read_at_utc_ns is not None:
            at_ns = message.read_at_utc_ns - read_utc_offset_ns(clock)
        at_ns = min(max(at_ns, now_ns - _STAMP_AGE_MAX_NS), now_ns)
        audit.add_plc_count(
            message.count, message.modulo, round(message.within_ms * NS_PER_MS), at_ns
        )

    def read_challenge(self, camera: str | None, image_name: str) -> Callable[[], None]:
        """Read a known-bad picture of the challenge folder; a disk may make it wait.

        Args:
            camera: Whose frame it stands for; the first camera's when None.
            picture: File name, or its path in the challenge folder; as `printable` writes it.

        Returns:
            Sends it through the line; does not wait.

        Raises:
            UsageError: There is no such camera, folder or picture.
        """
        if self._challenge_folder is None:
            raise UsageError("this line takes no challenge", remedy="Set capture.challenge_folder")
        capture = self._capture_of(camera) if camera else self._capture_threads[0]
        try:
            path = _challenge_path(Path(self._challenge_folder), image_name)
            reading = self._read_settings(capture, path.parent)
            pixels = read_image(path, reading, where=image_name, pixels_max=LINE_PIXELS_MAX)
        except (DataError, ValueError) as error:
            why = error.what if isinstance(error, DataError) else str(error)
            raise UsageError(
                f"is no picture of the challenge folder: {why}",
                where=image_name,
                remedy=getattr(error, "remedy", ""),
            ) from error
        return functools.partial(capture.inject_challenge, pixels, image_label(path.name))

    def _read_settings(self, capture: CaptureThread, folder: Path) -> ReadSettings:
        """As the challenge folder declares it, else as the camera's own pictures are read."""
        said = load_declaration(folder)
        own = getattr(capture.camera, "reading", None)
        if said.bits is None and isinstance(own, ReadSettings):
            return ReadSettings(self._color, own.bits, own.flat_end or said.flat_end)
        return ReadSettings(self._color, said.bits, said.flat_end)

    def _capture_of(self, camera: str) -> CaptureThread:
        for capture in self._capture_threads:
            if capture.rules.camera == camera:
                return capture
        names = ", ".join(capture.rules.camera for capture in self._capture_threads)
        raise UsageError(f"there is no camera {camera!r}", remedy=f"There are: {names}")


def _challenge_path(folder: Path, image_name: str) -> Path:
    """A file of a folder by its name, or by its path if that leads to this very folder.

    Raises:
        UsageError: It names a file elsewhere.
    """
    place, name = os.path.split(image_name)
    elsewhere = bool(place) and os.path.abspath(place) != os.path.abspath(folder)
    if not elsewhere and not os.path.lexists(folder / name):
        name = unescape_name(name)  # which may have got a folder by it
    if elsewhere or os.sep in name or name in ("", ".", ".."):
        raise UsageError(
            f"is no file of the line's challenge folder, {escape_name(folder)}",
            where=image_name,
            remedy="Copy it there, and say its name",
        )
    return folder / name
