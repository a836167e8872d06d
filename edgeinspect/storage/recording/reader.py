"""Reads recordings: one file, or a folder of consecutive files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edgeinspect.domain import Pixels, Verdict
from edgeinspect.errors import DataError
from edgeinspect.storage.recording.mcap_reader import McapMessage, McapReader
from edgeinspect.storage.recording.messages import (
    RECORDING_SUFFIX,
    TOPIC_CLOCK,
    TOPIC_CONFIGURATION,
    TOPIC_END,
    TOPIC_FRAME,
    TOPIC_INFO,
    TOPIC_MISSED,
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.pixel_codec import unpack_pixels
from edgeinspect.system import DecodeError, Decoder, decode_json, list_matching, msgpack_decoder
from edgeinspect.wire import decode_verdict

_TYPES: dict[str, type[msgspec.Struct]] = {
    TOPIC_INFO: RecordingInfo,
    TOPIC_CONFIGURATION: RecordedConfiguration,
    TOPIC_CLOCK: ClockReading,
    TOPIC_MISSED: MissedVerdicts,
    TOPIC_END: RecordingEnd,
}
_decode_frame: Decoder[FrameRecord] = msgpack_decoder(FrameRecord)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One recorded frame."""

    verdict: Verdict
    record: FrameRecord
    where: str

    def pixels(self) -> Pixels | None:
        """Unpack and return the camera's image; None if there is none.

        Raises:
            DataError: It is damaged.
        """
        if self.record.dims is None:
            return None
        try:
            return unpack_pixels(self.record.packing, self.record.pixels, self.record.dims)
        except DataError as error:
            raise DataError(
                f"frame {self.verdict.seq} {error.what}", where=self.where, remedy=error.remedy
            ) from error


RecordingItem = (
    RecordingInfo
    | RecordedConfiguration
    | ClockReading
    | MissedVerdicts
    | RecordingEnd
    | RecordedFrame
)


@dataclass(slots=True)
class Recording:
    """The files of one recording, in the order of writing. One thread."""

    files: list[Path]
    truncations: list[tuple[Path, str]] = field(default_factory=list)
    """After `items`: the files that were not finished, and how each ends."""

    def items(self) -> Iterator[RecordingItem]:
        """Yield the content of all files in order; may be called again.

        Raises:
            DataError: A file is not a recording, damaged before its end, or contradicts the
                one before.
        """
        self.truncations.clear()
        line = ""
        last = (0, 0)
        for path in self.files:
            for item in self._read_file(path):
                if isinstance(item, RecordingInfo):
                    if line and item.line != line:
                        raise DataError(
                            f"is of line {item.line}, the previous file of {line}",
                            where=str(path),
                            remedy="Replay one line at a time",
                        )
                    line = item.line
                elif isinstance(item, RecordedFrame):
                    position = (item.verdict.epoch, item.verdict.seq)
                    if not _may_follow(position, last):
                        raise DataError(
                            f"has frame {position[1]} of epoch {position[0]} after frame "
                            f"{last[1]} of epoch {last[0]}",
                            where=str(path),
                            remedy="Give each recording once, and folders with one line only",
                        )
                    last = position
                yield item

    def _read_file(self, path: Path) -> Iterator[RecordingItem]:
        reader = McapReader(path)
        has_info = has_end = False
        for message in reader.messages():
            item = _decode_item(message, str(path))
            if item is None:
                continue
            if not has_info and not isinstance(item, RecordingInfo):
                raise DataError("is an MCAP file, but no recording of edgeinspect", where=str(path))
            has_info = True
            has_end = isinstance(item, RecordingEnd)
            yield item
        if not has_info and not reader.truncation:
            raise DataError("is an MCAP file, but no recording of edgeinspect", where=str(path))
        if reader.truncation or not has_end:
            self.truncations.append(
                (path, reader.truncation or "truncated before its end was written")
            )


def open_recording(path: Path) -> Recording:
    """Return the recording of a file, or of a folder of files, without reading it.

    Raises:
        DataError: There is none.
    """
    files = list_matching(path, f"*{RECORDING_SUFFIX}") if path.is_dir() else [path]
    if not files:
        raise DataError(f"has no recording (*{RECORDING_SUFFIX})", where=str(path))
    if not files[0].is_file():
        raise DataError("there is no such recording", where=str(path))
    return Recording(files)


def _may_follow(position: tuple[int, int], last: tuple[int, int]) -> bool:
    """Return whether a frame may follow another: verdicts are recorded in the order of seq.

    A line that lost its spool restarts its seqs in a later epoch, and frames that a previous
    daemon left open keep its epoch; so one of the two may decrease or stay, but not both.
    """
    return position[0] > last[0] or position[1] > last[1]


def _decode_item(message: McapMessage, where: str) -> RecordingItem | None:
    """Decode one message; None if its topic is unknown."""
    kind, _, _camera = message.topic.partition(".")
    try:
        if kind == TOPIC_FRAME and message.encoding == "msgpack":
            record = _decode_frame(message.data)
            return RecordedFrame(decode_verdict(record.verdict), record, where)
        if kind in _TYPES and message.encoding == "json":
            item = decode_json(message.data, _TYPES[kind])
            assert isinstance(
                item,
                RecordingInfo
                | RecordedConfiguration
                | ClockReading
                | MissedVerdicts
                | RecordingEnd,
            )
            return item
    except DecodeError as error:
        raise DataError(
            f"has a {kind} message that cannot be read: {error}",
            where=where,
            remedy="Use the version of edgeinspect that recorded it",
        ) from error
    return None
