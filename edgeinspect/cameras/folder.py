"""A folder of images as a camera: for trials, re-running a shift, or a shared drive.

The capture thread never accesses the folder. A reader thread lists it and reads one image ahead,
and may be blocked by a dead file server for any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgeinspect.cameras._folder_listing import (
    FolderListing,
    SkippedEntries,
    check_folder_exists,
    list_folder,
)
from edgeinspect.cameras._folder_watch import FolderWatcher
from edgeinspect.cameras._frame_rate import FramePacer
from edgeinspect.cameras._inspected_files import InspectedFileKey, InspectedFiles
from edgeinspect.cameras._reader_thread import ReaderThread
from edgeinspect.domain import NS_PER_S, Clock, Grab, Part, Pixels
from edgeinspect.errors import CameraLostError, ConfigError, ConfigFault, DataError
from edgeinspect.imaging import (
    IMAGE_SUFFIXES,
    LINE_PIXELS_MAX,
    BitDepth,
    ReadSettings,
    check_depth_declared,
    declared_depth_warning,
    image_label,
    load_declaration,
    read_image,
    read_image_bytes,
)
from edgeinspect.ports import CameraFinished, DelayReportingCamera, ImageFileCamera
from edgeinspect.system import FileReadError, escape_name

_OPEN_TIMEOUT_NS = 3 * NS_PER_S
"""Longest wait for the first listing of a folder; after that the camera is lost."""
_DECODING_MAX_NS = 2 * NS_PER_S
"""Longest decoding of an image that is not reported as a delay."""

_REPORTED_KINDS_MAX = 32
"""Most kinds of skipped files that are reported, as suffixes may be numbers (`.0001`)."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: folder`."""

    path: str
    """Folder of images (png, jpg, bmp, tif, pgm, ppm), read in the order of their names."""
    color: Literal["mono", "bgr", "rgb"] = "mono"
    """Colour order of the models."""
    bits: BitDepth | None = None
    """Bit depth of the camera that took the images; an image of another depth gets no verdict.
    Absent: the value in the folder's `reading.yaml`, else 8 bits only. For a 12-bit camera that
    uses the upper bits of 16, configure 16."""
    flat_end: bool = False
    """Accept uncompressed images that end in rows of zeros, and JPEGs that end in plain grey 128,
    which otherwise count as incomplete copies."""
    pace: Literal["rate", "max", "trigger"] = "rate"
    rate_hz: Annotated[float, Meta(gt=0, le=10_000)] = 10.0
    """Frames per second with `pace: rate`."""
    repeat: bool = False
    """After the last image list the folder again and start over, instead of finishing."""
    names: str | None = None
    """A text file with one image name per line: only these images, in its order."""
    pixels_max: Annotated[int, Meta(ge=1, le=1_000_000_000)] = LINE_PIXELS_MAX
    """Largest image that is decoded, in pixels; a larger one is NO_VERDICT(capture_error)."""
    watch: bool = False
    """Another program fills the folder: inspect each image once, when it is complete, and never
    finish. The inspected files are stored across restarts."""
    settle_ms: Annotated[int, Meta(ge=10, le=600_000)] = 1_000
    """With `watch`: time without a change of a file's size and time before it is read."""
    complete_within_ms: Annotated[int, Meta(ge=100, le=86_400_000)] = 60_000
    """With `watch`: a file that is still incomplete after this time is NO_VERDICT."""


@dataclass(frozen=True, slots=True)
class _LoadedImage:
    name: str
    pixels: Pixels | None
    problem: str
    read_at_ns: int
    key: InspectedFileKey | None = None
    """Identity of the file in a watched folder."""


class FolderCamera(ImageFileCamera, DelayReportingCamera):
    """Reads images one ahead of the frame that is due. For threads see `ports.Camera`."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._pacer = FramePacer(options.pace, options.rate_hz, clock)
        self._reader: ReaderThread[_LoadedImage] = ReaderThread("folder-reader")
        self._read_settings = ReadSettings(options.color, options.bits, options.flat_end)
        self._depth_warning = ""
        self._skipped_files = ""
        self._reported_kinds: set[str] = set()
        self._listing: FolderListing | None = None
        self._next_index = 0
        self._last_name = ""
        self._frame_id = 0
        self._next_image: _LoadedImage | None = None
        self._decoding_since_ns = 0
        self._keys_by_frame_id: dict[int, InspectedFileKey] = {}
        self._watcher: FolderWatcher | None = None
        if options.watch:
            times_ms = (options.settle_ms, options.complete_within_ms)
            self._watcher = FolderWatcher(options.path, *times_ms, clock, self._decode_image)

    # -- for the capture thread -------------------------------------------------------

    @property
    def read_settings(self) -> ReadSettings:
        """Return the read settings; complete once the camera has been opened."""
        return self._read_settings

    @property
    def period_ns(self) -> int | None:
        return None if self._watcher is not None else self._pacer.period_ns

    @property
    def waiting_for(self) -> str:
        """Return the pending call, such as `reading a3.png`; empty if there is none."""
        since_ns = self._decoding_since_ns
        if since_ns and self._clock.now_ns() - since_ns < _DECODING_MAX_NS:
            return ""
        return self._reader.pending_call

    @property
    def skipped_files(self) -> str:
        """Return the skipped entries; updated when there is another kind."""
        return self._skipped_files

    @property
    def alarm(self) -> str:
        """Return the alarm of the folder; empty if there is none."""
        return self._depth_warning or ("" if self._watcher is None else self._watcher.alarm)

    def set_history_file(self, path: Path) -> None:
        """Set the file that stores the inspected files of a watched folder; before `open`."""
        if self._watcher is not None:
            self._watcher.inspected = InspectedFiles(path)

    def open(self) -> None:
        """List the folder; a re-opened camera continues after its last image."""
        if not self._reader.pending_call:
            self._reader.submit("listing the folder", self._list_files)
        until_ns = self._clock.now_ns() + _OPEN_TIMEOUT_NS
        while self._reader.pending_call:
            done, image = self._reader.fetch_result(until_ns - self._clock.now_ns())
            if not done:
                raise CameraLostError(
                    f"does not respond: {self._reader.pending_call}",
                    where=escape_name(self._options.path),
                    remedy="Check the disk or the file server of the folder",
                )
            self._next_image = self._next_image or image
        self._pacer.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        until_ns = self._clock.now_ns() + timeout_ns
        if self._next_image is None:
            self._next_image = self._wait_image(until_ns)
            if self._next_image is None:
                return None
        self._pacer.delay_until(self._next_image.read_at_ns)  # a slow disk delays the frame
        due = self._pacer.wait(max(0, until_ns - self._clock.now_ns()))
        if due is None:
            self._poll_folder()
            return None
        image, self._next_image = self._next_image, None
        self._frame_id += 1
        if image.key is not None:
            self._keys_by_frame_id[self._frame_id] = image.key
        at_ns, part = due
        return Grab(
            pixels=image.pixels,
            camera_frame_id=self._frame_id,
            captured_at_ns=at_ns,
            part=part,
            label=image_label(image.name),
            problem=image.problem,
        )

    def release(self, grab: Grab) -> None:
        """Mark the image of a watched folder as inspected: its frame is in the spool."""
        key = self._keys_by_frame_id.pop(grab.camera_frame_id, None)
        if key is not None and self._watcher is not None:
            inspected = self._watcher.inspected
            self._reader.submit("recording an inspected file", lambda: inspected.add(key))

    def trigger(self, part: Part) -> None:
        self._pacer.trigger(part)

    def close(self) -> None:
        """End the reader thread; if it is blocked, it ends when its read returns."""
        self._reader.close()

    def _wait_image(self, until_ns: int) -> _LoadedImage | None:
        """Return the next image; None if it is not read in time.

        Raises:
            CameraFinished: There are no more images.
            CameraLostError: The folder is gone.
        """
        while True:
            if not self._reader.pending_call:
                if self._watcher is not None and not self._watcher.has_more:
                    pause_until_ns = self._watcher.pause_until_ns
                    self._clock.sleep_until(min(until_ns, pause_until_ns))
                    if pause_until_ns > until_ns:
                        return None
                self._request_next()
            done, image = self._reader.fetch_result(until_ns - self._clock.now_ns())
            if not done:
                return None
            if image is not None:
                return image

    def _request_next(self) -> None:
        if self._watcher is not None:
            self._reader.submit("scanning the folder", self._next_complete)
            return
        assert self._listing is not None
        names = self._listing.names
        if self._next_index >= len(names) and not self._options.repeat:
            raise CameraFinished
        name = escape_name(names[self._next_index]) if self._next_index < len(names) else ""
        self._reader.submit(f"reading {name}" if name else "listing the folder", self._read_next)

    def _poll_folder(self) -> None:
        """Check that the folder exists, while no frame is due."""
        if self._reader.pending_call:
            self._reader.fetch_result(0)
        else:
            self._reader.submit("scanning the folder", self._check_folder)

    # -- in the reader thread ---------------------------------------------------------

    def _list_files(self) -> None:
        options = self._options
        listing = list_folder(options.path, options.names)
        if self._watcher is not None:
            self._watcher.load()
        elif not listing.names:
            skipped = str(listing.skipped)
            raise DataError(
                "holds no image" + (f"; skipped: {skipped}" if skipped else ""),
                where=escape_name(options.path),
                remedy=f"Supported are {', '.join(sorted(IMAGE_SUFFIXES))}",
            )
        if self._listing is None:
            self._read_settings = self._find_read_settings(listing.names)
        if self._listing is not None and options.names is None:  # continue after the last one
            self._next_index = sum(name <= self._last_name for name in listing.names)
        self._listing = listing
        self._report_skipped(listing.skipped)

    def _report_skipped(self, skipped: SkippedEntries) -> None:
        """Report the skipped entries if there is a new kind."""
        if len(self._reported_kinds) < _REPORTED_KINDS_MAX and not self._reported_kinds.issuperset(
            skipped.counts
        ):
            self._reported_kinds.update(skipped.counts)
            self._skipped_files = str(skipped)

    def _find_read_settings(self, names: Sequence[str]) -> ReadSettings:
        """Return the read settings that the options and the folder declare.

        Raises:
            DataError: They differ, or nothing is declared and some images require it.
        """
        options, folder = self._options, Path(self._options.path)
        declaration, where = load_declaration(folder), escape_name(folder)
        if None not in (options.bits, declaration.bits) and options.bits != declaration.bits:
            raise DataError(
                f"the camera's `bits` are {options.bits}, those of its folder {declaration.bits}",
                where=where,
                remedy="Correct one of them",
            )
        bits = options.bits or declaration.bits
        paths = [folder / name for name in names]
        if bits is None:
            check_depth_declared(paths, where)
        else:
            self._depth_warning = declared_depth_warning(paths, bits)
        return ReadSettings(options.color, bits, options.flat_end or declaration.flat_end)

    def _check_folder(self) -> None:
        check_folder_exists(self._options.path)

    def _read_next(self) -> _LoadedImage:
        assert self._listing is not None
        if self._next_index >= len(self._listing.names):
            self._last_name = ""
            try:
                self._list_files()
            except DataError as error:
                raise CameraLostError(error.what, where=error.where, remedy=error.remedy) from error
            self._next_index = 0
        name = self._listing.names[self._next_index]
        pixels, problem = self._read_image(name)
        self._next_index += 1
        self._last_name = name
        return _LoadedImage(name, pixels, problem, self._clock.now_ns())

    def _next_complete(self) -> _LoadedImage | None:
        assert self._watcher is not None
        try:
            found = self._watcher.next_complete()
        except DataError as error:  # too many files; the line must keep running
            raise CameraLostError(error.what, where=error.where, remedy=error.remedy) from error
        self._report_skipped(self._watcher.skipped)
        if found is None:
            return None
        name, pixels, problem, key = found
        return _LoadedImage(name, pixels, problem, self._clock.now_ns(), key)

    def _read_image(self, name: str) -> tuple[Pixels | None, str]:
        """Return (pixels, "") or (None, problem); raise `CameraLostError` without the folder."""
        try:
            return self._decode_image(name)
        except FileReadError as error:
            check_folder_exists(self._options.path)
            return None, error.what

    def _decode_image(self, name: str) -> tuple[Pixels | None, str]:
        """Return (pixels, "") or (None, problem); raise `FileReadError` if reading fails."""
        options = self._options
        try:
            data = read_image_bytes(Path(options.path, name))
            self._decoding_since_ns = self._clock.now_ns()
            return read_image(data, self._read_settings, pixels_max=options.pixels_max), ""
        except FileReadError:
            raise
        except DataError as error:
            return None, f"{error.what}. {error.remedy}" if error.remedy else error.what
        except Exception as error:  # raised by a decoder
            return None, f"cannot be decoded: {type(error).__name__}"
        finally:
            self._decoding_since_ns = 0


def build(options: Options, clock: Clock) -> FolderCamera:
    """Return a folder camera, not yet opened.

    Raises:
        ConfigError: `watch` is combined with `repeat` or `names`.
    """
    if options.watch and (options.repeat or options.names is not None):
        other = "repeat" if options.repeat else "names"
        fault = ConfigFault(other, "cannot be combined with `watch: true`")
        raise ConfigError([fault], where=escape_name(options.path))
    return FolderCamera(options, clock)
