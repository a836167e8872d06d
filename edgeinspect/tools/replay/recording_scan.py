"""First pass over a recording: its contents, before any frame is inspected."""

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
    """Contents of a recording."""

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
    """Read a recording once, without decoding images.

    Raises:
        DataError: The file is not a recording, is damaged, or contains no frame.
    """
    scan = RecordingScan()
    last: ClockReading | None = None
    for item in recording.items():
        if isinstance(item, RecordingInfo):
            scan.line = item.line
            scan.machine = item.machine
        elif isinstance(item, RecordedConfiguration):
            scan.configurations[item.hash] = item
        elif isinstance(item, ClockReading):
            if last is not None:
                moved_ns = (item.utc_ns - item.mono_ns) - (last.utc_ns - last.mono_ns)
                scan.clock_steps += abs(moved_ns) > _CLOCK_STEP_NS
            last = item
        elif isinstance(item, MissedVerdicts):
            scan.missed += max(0, item.to_seq - item.from_seq + 1)
        elif isinstance(item, RecordedFrame):
            _add_frame(scan, item)
    scan.cuts = [f"{path.name}: {reason}" for path, reason in recording.truncations]
    if not scan.frames:
        cut = f" ({scan.cuts[0]})" if scan.cuts else ""
        raise DataError(f"contains no frame{cut}", where=str(recording.files[0]))
    return scan


def _add_frame(scan: RecordingScan, frame: RecordedFrame) -> None:
    verdict = frame.verdict
    if not scan.segments or not scan.segments[-1].accepts(verdict):
        scan.segments.append(
            RecordedSegment(scan.frames, verdict.config_hash, recorded_models(verdict))
        )
    scan.first_utc_ns = scan.first_utc_ns or verdict.captured_at_utc_ns
    scan.last_utc_ns = verdict.captured_at_utc_ns
    scan.frames += 1
