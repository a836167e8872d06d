"""A folder of pictures as a camera: for trials, for re-running a day, for a shared drive."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgeinspect.cameras._pace import Pace
from edgeinspect.domain.clock import Clock
from edgeinspect.domain.frame import Grab, Part, Pixels
from edgeinspect.errors import CameraLostError, DataError
from edgeinspect.imaging.picture_file import SUFFIXES, read_picture
from edgeinspect.ports import CameraFinished


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: folder`."""

    path: str
    """Folder of pictures (png, jpg, bmp, tif), read in the order of their names."""
    color: Literal["mono", "bgr", "rgb"] = "mono"
    """How pictures are read; must be the models' own order."""
    pace: Literal["rate", "max", "trigger"] = "rate"
    rate_hz: Annotated[float, Meta(gt=0, le=10_000)] = 10.0
    """Frames a second when paced by rate."""
    repeat: bool = False
    """Begin again after the last picture instead of finishing."""
    names: str | None = None
    """A text file with one picture name a line: only these, in its order."""


class FolderCamera:
    """Reads pictures one by one, before they are due. See `ports.Camera` for threads."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pace = Pace(options.pace, options.rate_hz, clock)
        self._names: list[str] = []
        self._at = 0
        self._frame_id = 0
        self._ready: tuple[str, Pixels | None, str] | None = None

    @property
    def period_ns(self) -> int | None:
        return self._pace.period_ns

    def open(self) -> None:
        """List the folder; a re-opened camera goes on where it was."""
        names = self._list()
        if not names:
            raise DataError(
                "holds no picture",
                where=self._options.path,
                remedy=f"Put files of {', '.join(sorted(SUFFIXES))} there",
            )
        self._names = names
        self._pace.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        if self._ready is None:
            self._ready = self._read_next()
        due = self._pace.wait(timeout_ns)
        if due is None:
            self._check_there()
            return None
        (name, pixels, problem), self._ready = self._ready, None
        self._frame_id += 1
        at_ns, part = due
        return Grab(
            pixels=pixels,
            camera_frame_id=self._frame_id,
            captured_at_ns=at_ns,
            part=part,
            label=name,
            problem=problem,
        )

    def release(self, grab: Grab) -> None:
        """Nothing to give back: each picture has its own memory."""

    def trigger(self, part: Part) -> None:
        self._pace.trigger(part)

    def close(self) -> None:
        """Nothing is held open."""

    def _list(self) -> list[str]:
        options = self._options
        try:
            present = sorted(
                entry.name
                for entry in os.scandir(options.path)
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES
            )
        except OSError as error:
            raise CameraLostError(
                f"folder cannot be read: {error.strerror}", where=options.path
            ) from error
        if options.names is None:
            return present
        try:
            chosen = Path(options.names).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read: {error}", where=options.names) from error
        return [name.strip() for name in chosen if name.strip()]

    def _read_next(self) -> tuple[str, Pixels | None, str]:
        if self._at >= len(self._names):
            if not self._options.repeat:
                raise CameraFinished
            self._at = 0
        name = self._names[self._at]
        pixels, problem = self._read(Path(self._options.path) / name)
        self._at += 1
        return name, pixels, problem

    def _read(self, path: Path) -> tuple[Pixels | None, str]:
        """(pixels, "") or (None, why). A picture that is gone with its folder is a loss."""
        try:
            pixels = read_picture(path, self._options.color)
        except OSError as error:
            self._check_there()
            return None, f"cannot be read: {error.strerror}"
        return pixels, "" if pixels is not None else "is not a picture"

    def _check_there(self) -> None:
        if not os.path.isdir(self._options.path):
            raise CameraLostError("folder is gone", where=self._options.path)


def build(options: Options, clock: Clock) -> FolderCamera:
    """A folder camera, not yet opened."""
    return FolderCamera(options, clock)
