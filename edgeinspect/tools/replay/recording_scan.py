"""The first reading of a recording: what is in it, before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeinspect.errors import DataError
from edgeinspect.storage.recording.messages import About, ClockReading, Configuration, Missed
from edgeinspect.storage.recording.reader import RecordedFrame, Recording
from edgeinspect.tools.replay.engine_selection import Segment, models_of

_STEP_NS = 50_000_000


@dataclass(slots=True)
class Survey:
    """What a recording holds."""

    line: str = ""
    machine: dict[str, str] = field(default_factory=dict)
    configurations: dict[str, Configuration] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    frames: int = 0
    missed: int = 0
    first_utc_ns: int = 0
    last_utc_ns: int = 0
    clock_steps: int = 0
    cuts: list[str] = field(default_factory=list)


def survey(recording: Recording) -> Survey:
    """Read all of it once, without unpacking a picture.

    Raises:
        DataError: It is none, or damaged, or holds no frame.
    """
    found = Survey()
    last: ClockReading | None = None
    for item in recording.items():
        if isinstance(item, About):
            found.line = item.line
            found.machine = item.machine
        elif isinstance(item, Configuration):
            found.configurations[item.hash] = item
        elif isinstance(item, ClockReading):
            if last is not None:
                moved_ns = (item.utc_ns - item.mono_ns) - (last.utc_ns - last.mono_ns)
                found.clock_steps += abs(moved_ns) > _STEP_NS
            last = item
        elif isinstance(item, Missed):
            found.missed += max(0, item.to_seq - item.from_seq + 1)
        elif isinstance(item, RecordedFrame):
            _note(found, item)
    found.cuts = [f"{path.name}: {how}" for path, how in recording.cuts]
    if not found.frames:
        cut = f" ({found.cuts[0]})" if found.cuts else ""
        raise DataError(f"holds no frame{cut}", where=str(recording.files[0]))
    return found


def _note(found: Survey, frame: RecordedFrame) -> None:
    verdict = frame.verdict
    if not found.segments or not found.segments[-1].takes(verdict):
        found.segments.append(Segment(found.frames, verdict.config_hash, models_of(verdict)))
    found.first_utc_ns = found.first_utc_ns or verdict.captured_at_utc_ns
    found.last_utc_ns = verdict.captured_at_utc_ns
    found.frames += 1
