"""The first reading of a recording: what is in it, before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeinspect.errors import DataError
from edgeinspect.storage.recording import (
    ClockReading,
    MissedVerdicts,
    RecordedConfiguration,
    RecordedFrame,
    Recording,
    RecordingInfo,
)
from edgeinspect.tools.replay.engine_selection import RecordedSegment, recorded_models

_CLOCK_STEP_NS = 50_000_000


@dataclass(slots=True)
class RecordingScan:
    """What a recording holds."""

    line: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    configurations: dict[str, RecordedConfiguration] = field(default_factory=dict)
    segments: list[RecordedSegment] = field(default_factory=list)
    frames: int = 0
    missed: int = 0
    first_utc_ns: int = 0
    last_utc_ns: int = 0
    clock_steps: int = 0
    cuts: list[str] = field(default_factory=list)


def scan_recording(recording: Recording) -> RecordingScan:
    """Read all of it once, without unpacking a picture.

    Raises:
        DataError: It is none, or damaged, or holds no frame.
    """
    found = RecordingScan()
    last: ClockReading | None = None
    for item in recording.items():
        if isinstance(item, RecordingInfo):
            found.line = item.line
            found.machine = item.machine
        elif isinstance(item, RecordedConfiguration):
            found.configurations[item.hash] = item
        elif isinstance(item, ClockReading):
            if last is not None:
                moved_ns = (item.utc_ns - item.mono_ns) - (last.utc_ns - last.mono_ns)
                found.clock_steps += abs(moved_ns) > _CLOCK_STEP_NS
            last = item
        elif isinstance(item, MissedVerdicts):
            found.missed += max(0, item.to_seq - item.from_seq + 1)
        elif isinstance(item, RecordedFrame):
            _add_frame(found, item)
    found.cuts = [f"{path.name}: {how}" for path, how in recording.truncations]
    if not found.frames:
        cut = f" ({found.cuts[0]})" if found.cuts else ""
        raise DataError(f"holds no frame{cut}", where=str(recording.files[0]))
    return found


def _add_frame(found: RecordingScan, frame: RecordedFrame) -> None:
    verdict = frame.verdict
    if not found.segments or not found.segments[-1].accepts(verdict):
        found.segments.append(
            RecordedSegment(found.frames, verdict.config_hash, recorded_models(verdict))
        )
    found.first_utc_ns = found.first_utc_ns or verdict.captured_at_utc_ns
    found.last_utc_ns = verdict.captured_at_utc_ns
    found.frames += 1
