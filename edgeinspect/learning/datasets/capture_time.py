"""When the images of a set were taken: by their names, their EXIF data, or their files' times."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from edgeinspect.learning.datasets.dataset import Sample
from edgeinspect.system import open_regular

_HEAD_BYTES = 1 << 17
_TAIL_BYTES = 1 << 16
_DATE = r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])"
_CLOCK = r"([01]\d|2[0-3])[-_.:h]?([0-5]\d)[-_.:m]?([0-5]\d)(?:[-_.,]?(\d{1,6}))?(?!\d)"
_IN_NAME = re.compile(rf"{_DATE}[-_. T]{{0,3}}{_CLOCK}")
_EPOCH = re.compile(r"(?<!\d)(1\d{9})(\d{3})?(\d{3})?(?:\d{3})?(?!\d)")
"""Seconds, milliseconds, microseconds or nanoseconds since 1970: from 2001 to 2033."""
_IN_EXIF = re.compile(rb"((?:19|20)\d\d:[01]\d:[0-3]\d [0-2]\d:[0-5]\d:[0-5]\d)\0")
_EXIF_FORMAT = "%Y:%m:%d %H:%M:%S"


def capture_times_s(samples: Sequence[Sample]) -> tuple[list[float], str]:
    """Return when each image was taken in seconds, and what says so.

    One source serves the whole set, the first that all images have: a date with a time of day,
    or seconds since 1970, in the name; the earliest date in the EXIF data; else the time at
    which the file was last changed, which a copy may have set anew.

    Raises:
        DataError: A file cannot be read.
    """
    sources: tuple[tuple[str, Callable[[Sample], float | None]], ...] = (
        ("the names", _time_in_name),
        ("the EXIF data", _time_in_exif),
    )
    for source, read in sources:
        times: list[float] = []
        for sample in samples:
            time_s = read(sample)
            if time_s is None:
                break
            times.append(time_s)
        else:
            return times, source
    return [sample.path.stat().st_mtime for sample in samples], "the files' times"


def _time_in_name(sample: Sample) -> float | None:
    name = sample.name
    if found := _IN_NAME.search(name):
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        try:
            moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        except ValueError:  # 31 February
            return None
        return moment.timestamp() + float(f"0.{found[7] or 0}")
    if found := _EPOCH.search(name):
        seconds, milliseconds, microseconds = found.groups()
        return int(seconds) + int(milliseconds or 0) / 1e3 + int(microseconds or 0) / 1e6
    return None


def _time_in_exif(sample: Sample) -> float | None:
    """Return the earliest date: that of the exposure, not of a later change.

    EXIF stores its dates as text that ends in a zero byte; the directories are not needed.
    """
    with open_regular(sample.path) as file:
        data = file.read(_HEAD_BYTES)
        size = file.seek(0, 2)
        if size > _HEAD_BYTES:  # a TIFF may have its directory at the end
            file.seek(max(_HEAD_BYTES, size - _TAIL_BYTES))
            data += file.read(_TAIL_BYTES)
    moments = []
    for text in _IN_EXIF.findall(data):
        try:
            moments.append(datetime.strptime(text.decode(), _EXIF_FORMAT))
        except ValueError:
            continue
    return min(moments).replace(tzinfo=timezone.utc).timestamp() if moments else None
