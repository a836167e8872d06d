"""Orders from outside: trigger a camera, hear how often the PLC did, or send a challenge part."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock, read_offset_ns
from edgeinspect.domain.frame import TOO_LATE, Part
from edgeinspect.errors import DataError, UsageError
from edgeinspect.imaging.formats.header import LINE_PIXELS_MAX
from edgeinspect.imaging.image_file import Reading, read
from edgeinspect.imaging.image_names import label_of
from edgeinspect.imaging.read_settings import declared
from edgeinspect.pipeline.capture.camera_thread import Capture
from edgeinspect.pipeline.capture.pending_triggers import Ticket
from edgeinspect.system.regular_file import printable, unprintable
from edgeinspect.wire.requests import TriggerCount

_AGE_MAX_NS = 10 * NS_PER_S
"""A stamp that is older says that the sender's clock is wrong."""


class Orders:
    """Finds the camera that an order is for. Thread-safe."""

    def __init__(
        self,
        captures: Sequence[Capture],
        color: str,
        challenge_folder: str | None,
        clock: Clock,
    ) -> None:
        self._captures = captures
        self._color = color
        self._challenge_folder = challenge_folder
        self._clock = clock

    def trigger(self, camera: str, part: Part) -> Ticket:
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
        capture = self._find(camera)
        if part.expired(self._clock.now_ns()):
            raise UsageError(TOO_LATE)
        return capture.trigger(part)

    def count_triggers(self, said: TriggerCount) -> None:
        """What the PLC counted of one camera's triggers.

        Raises:
            UsageError: There is no such camera.
        """
        audit, clock = self._find(said.camera).audit, self._clock
        at_ns = now_ns = clock.now_ns()
        if said.read_at_utc_ns is not None:
            at_ns = said.read_at_utc_ns - read_offset_ns(clock)
        at_ns = min(max(at_ns, now_ns - _AGE_MAX_NS), now_ns)
        audit.hear(said.count, said.modulo, round(said.within_ms * NS_PER_MS), at_ns)

    def challenge(self, camera: str | None, picture: str) -> Callable[[], None]:
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
        capture = self._find(camera) if camera else self._captures[0]
        try:
            path = _named(Path(self._challenge_folder), picture)
            reading = self._reading(capture, path.parent)
            pixels = read(path, reading, where=picture, pixels_max=LINE_PIXELS_MAX)
        except (DataError, ValueError) as error:
            why = error.what if isinstance(error, DataError) else str(error)
            raise UsageError(
                f"is no picture of the challenge folder: {why}",
                where=picture,
                remedy=getattr(error, "remedy", ""),
            ) from error
        return functools.partial(capture.challenge, pixels, label_of(path.name))

    def _reading(self, capture: Capture, folder: Path) -> Reading:
        """As the challenge folder declares it, else as the camera's own pictures are read."""
        said = declared(folder)
        own = getattr(capture.camera, "reading", None)
        if said.bits is None and isinstance(own, Reading):
            return Reading(self._color, own.bits, own.flat_end or said.flat_end)
        return Reading(self._color, said.bits, said.flat_end)

    def _find(self, camera: str) -> Capture:
        for capture in self._captures:
            if capture.rules.camera == camera:
                return capture
        names = ", ".join(capture.rules.camera for capture in self._captures)
        raise UsageError(f"there is no camera {camera!r}", remedy=f"There are: {names}")


def _named(folder: Path, picture: str) -> Path:
    """A file of a folder by its name, or by its path if that leads to this very folder.

    Raises:
        UsageError: It names a file elsewhere.
    """
    place, name = os.path.split(picture)
    elsewhere = bool(place) and os.path.abspath(place) != os.path.abspath(folder)
    if not elsewhere and not os.path.lexists(folder / name):
        name = unprintable(name)  # which may have got a folder by it
    if elsewhere or os.sep in name or name in ("", ".", ".."):
        raise UsageError(
            f"is no file of the line's challenge folder, {printable(folder)}",
            where=picture,
            remedy="Copy it there, and say its name",
        )
    return folder / name
