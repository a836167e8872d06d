"""The recorder on a spool and a ring: configuration, limits, clocks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs

needs.library("mcap")

import msgspec

from edgeinspect.config.loader import dump_canonical, load_config, parse_config
from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Reason
from edgeinspect.errors import ConfigError
from edgeinspect.services.recorder.file_rotation import RotatingWriter
from edgeinspect.services.recorder.service import Recorder, RecordingLimits, read_clocks
from edgeinspect.services.recorder.writer_thread import TOO_SLOW, CapturedFrame, WriterThread
from edgeinspect.storage.recording.messages import (
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.reader import RecordedFrame, open_recording
from edgeinspect.storage.shared_memory.frame_ring import FrameRing
from edgeinspect.storage.spool.format import OpenRecord
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.wire.messages import encode_message
from tests.system.test_record_cli import LINE
from tests.unit.services.recorder.test_verdict_reader import put, verdict

SHAPE = FrameShape(4, 6, 1)


class RecordedLine:
    """The files of a line that a recorder reads."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "line.yaml"
        self.write()
        run = folder / "run"
        run.mkdir()
        self.spool = Spool(run / "taken.spool", line="taken", slots=64, utc_ns=10**18)
        self.ring = FrameRing(run / "taken.top.ring", 8, SHAPE)
        self.out = folder / "a.mcap"
        self.hash = load_config(self.config).hash

    def write(self, **changes: Any) -> None:
        folder = str(self.config.parent / "run")
        self.config.write_text(json.dumps(LINE | {"spool": {"folder": folder}} | changes))

    def frame(self, config_hash: str | None = None) -> None:
        seq = self.spool.open(OpenRecord("top", 1, 1, 0, 0, 0))
        put(self.ring, seq)
        named = msgspec.structs.replace(verdict(seq), config_hash=config_hash or self.hash)
        self.spool.close(seq, encode_message(named))
        self.spool.mark_published(seq)

    def record(self, deliver: Callable[[], None], **settings: Any) -> Any:
        """Record until `deliver`, called in another thread after attaching, has returned."""
        limits = RecordingLimits(**{"max_bytes": 16 << 20, "buffer_bytes": 1 << 20, **settings})
        recorder = Recorder(self.config, (), self.out, limits, SystemClock())

        def feed() -> None:
            while not recorder._verdict_reader.next_seq:
                threading.Event().wait(0.005)
            deliver()

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            return recorder.run()
        finally:
            thread.join()


@pytest.fixture
def line(tmp_path: Path) -> RecordedLine:
    return RecordedLine(tmp_path)


def test_records_frames_and_configuration(line: RecordedLine) -> None:
    summary = line.record(lambda: [line.frame() for _ in range(5)] and None, max_frames=5)
    assert (summary.frames, summary.without_image, summary.missed) == (5, 0, 0)
    items = list(open_recording(line.out).items())
    told = next(item for item in items if isinstance(item, RecordedConfiguration))
    assert (told.hash, parse_config(told.text).hash) == (line.hash, line.hash)
    found = [item for item in items if isinstance(item, RecordedFrame)]
    assert [item.verdict.seq for item in found] == [1, 2, 3, 4, 5]
    for item in found:
        pixels = item.pixels()
        assert pixels is not None
        assert (pixels == item.verdict.seq).all()
    assert items[-1] == RecordingEnd(
        why="the frame limit is reached", frames=5, without_picture=0, missed=0
    )


def test_refuses_a_configuration_that_the_line_does_not_run(line: RecordedLine) -> None:
    with pytest.raises(ConfigError, match="the line runs with configuration other"):
        line.record(lambda: line.frame("other"), max_frames=1)
    assert not line.out.exists()  # so that the next try can use the name


def test_records_a_reload(line: RecordedLine) -> None:
    def deliver() -> None:
        line.frame()
        while not line.out.stat().st_size:
            threading.Event().wait(0.005)
        threading.Event().wait(0.1)
        line.write(optics={"mm_per_px_x": 2, "mm_per_px_y": 2})
        line.frame(load_config(line.config).hash)
        line.frame("unknown")

    summary = line.record(deliver, max_frames=3)
    assert summary.frames == 3
    told = [
        each for each in open_recording(line.out).items() if isinstance(each, RecordedConfiguration)
    ]
    assert [each.hash for each in told] == [line.hash, load_config(line.config).hash]


def test_stops_after_the_duration(line: RecordedLine) -> None:
    summary = line.record(lambda: None, duration_ns=300_000_000)
    assert (summary.end_reason, summary.frames) == ("the duration is reached", 0)


def test_dumped_configuration_has_the_same_hash(line: RecordedLine) -> None:
    examples = Path(__file__).parents[4] / "examples"
    for path in (line.config, *sorted(examples.glob("*.yaml"))):
        try:
            loaded = load_config(path)
        except ConfigError:  # some examples are not lines
            continue
        assert parse_config(dump_canonical(loaded)).hash == loaded.hash, path


def test_queue_is_bounded_and_drops_are_recorded(tmp_path: Path) -> None:
    about = RecordingInfo(line="a", edgeinspect="1", began_utc_ns=1, machine={})
    reel = RotatingWriter(tmp_path / "a.mcap", "a", 16 << 20, lambda: about)
    bodies = {seq: encode_message(verdict(seq)) for seq in range(1, 10)}
    size = len(bodies[1]) + SHAPE.size_bytes
    writing = WriterThread(reel, ManualClock(), 4 * size, lambda why: None)
    for seq, body in bodies.items():
        pixels = np.full(SHAPE.dims, seq, np.uint8)
        writing.put(CapturedFrame(verdict(seq), body, pixels, ""))
    writing.start()  # only now: the disk was slow
    writing.finish("stopped")
    items = list(open_recording(tmp_path / "a.mcap").items())
    found = [item for item in items if isinstance(item, RecordedFrame)]
    assert [item.record.why_not for item in found] == [""] * 4 + [TOO_SLOW]
    assert items[-2:] == [
        MissedVerdicts(from_seq=6, to_seq=9),
        RecordingEnd(why="stopped", frames=5, without_picture=1, missed=4),
    ]
    writing = WriterThread(
        RotatingWriter(tmp_path / "b.mcap", "a", 16 << 20, lambda: about),
        ManualClock(),
        10,
        lambda why: None,
    )
    writing.put(CapturedFrame(verdict(1, Reason.DEADLINE), bodies[1], None, "gone"))
    writing.start()
    writing.finish("stopped")
    assert writing.failure is None


def test_reads_both_clocks_at_one_instant() -> None:
    clock = ManualClock()
    reading = read_clocks(clock)
    assert reading.utc_ns - reading.mono_ns == clock.utc_offset_ns
