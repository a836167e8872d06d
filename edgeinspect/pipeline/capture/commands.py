"""Commands from clients: trigger a camera, compare trigger counts, inject a challenge part."""

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
from edgeinspect.pipeline.capture.triggers import PendingTrigger
from edgeinspect.ports import ImageFileCamera
from edgeinspect.system import escape_name, unescape_name
from edgeinspect.wire import TriggerCount

_STAMP_AGE_MAX_NS = 10 * NS_PER_S
"""An older timestamp means that the sender's clock is wrong."""


class CommandHandler:
    """Executes commands on the capture thread that they name. Thread-safe.

    Args:
        capture_threads: One per camera.
        color: Of the line's frames: `mono`, `bgr` or `rgb`.
        challenge_folder: Folder of the challenge images; None if the line has none.
        clock: For the age of triggers and counts.
    """

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
        """Request one frame of one camera.

        Raises:
            UsageError: There is no such camera, it accepts no trigger, the part's id is
                invalid, or the trigger has expired.
            CameraLostError: The camera is lost.
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
        """Add the PLC's count of one camera's triggers.

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
        """Read a challenge image; may wait for a disk.

        Args:
            camera: Whose frame the image replaces; the first camera's if None.
            image_name: File name, or path in the challenge folder; as `escape_name` writes it.

        Returns:
            Injects the image into the line; does not wait.

        Raises:
            UsageError: There is no such camera, folder or image.
        """
        if self._challenge_folder is None:
            raise UsageError(
                "this line accepts no challenge", remedy="Set capture.challenge_folder"
            )
        capture = self._capture_of(camera) if camera else self._capture_threads[0]
        try:
            path = _challenge_path(Path(self._challenge_folder), image_name)
            settings = self._read_settings(capture, path.parent)
            pixels = read_image(path, settings, where=image_name, pixels_max=LINE_PIXELS_MAX)
        except (DataError, ValueError) as error:
            why = error.what if isinstance(error, DataError) else str(error)
            raise UsageError(
                f"is no image of the challenge folder: {why}",
                where=image_name,
                remedy=getattr(error, "remedy", ""),
            ) from error
        return functools.partial(capture.inject_challenge, pixels, image_label(path.name))

    def _read_settings(self, capture: CaptureThread, folder: Path) -> ReadSettings:
        """Return what the challenge folder declares, or else the settings of the camera."""
        declared, camera = load_declaration(folder), capture.camera
        if declared.bits is None and isinstance(camera, ImageFileCamera):
            own = camera.read_settings
            return ReadSettings(self._color, own.bits, own.flat_end or declared.flat_end)
        return ReadSettings(self._color, declared.bits, declared.flat_end)

    def _capture_of(self, camera: str) -> CaptureThread:
        for capture in self._capture_threads:
            if capture.rules.camera == camera:
                return capture
        names = ", ".join(capture.rules.camera for capture in self._capture_threads)
        raise UsageError(f"there is no camera {camera!r}", remedy=f"There are: {names}")


def _challenge_path(folder: Path, image_name: str) -> Path:
    """Return a file of the folder by its name, or by its path if that is in this folder.

    Raises:
        UsageError: The file is elsewhere.
    """
    parent, name = os.path.split(image_name)
    is_elsewhere = bool(parent) and os.path.abspath(parent) != os.path.abspath(folder)
    if not is_elsewhere and not os.path.lexists(folder / name):
        name = unescape_name(name)  # may contain a separator now
    if is_elsewhere or os.sep in name or name in ("", ".", ".."):
        raise UsageError(
            f"is no file of the line's challenge folder, {escape_name(folder)}",
            where=image_name,
            remedy="Copy it there, and pass its name",
        )
    return folder / name
