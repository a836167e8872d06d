"""The replay's program: every recorded frame judged again, and held against its verdict."""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgeinspect.domain import NS_PER_S, ManualClock, Pixels, Reason, Verdict, model_name
from edgeinspect.errors import DataError, EngineFault
from edgeinspect.storage.recording import ClockReading, RecordedFrame, open_recording
from edgeinspect.system import describe_machine
from edgeinspect.tools.replay.causes import DecidedBy, decided_by
from edgeinspect.tools.replay.compare import (
    ReplaySummary,
    describe_difference,
    differing_decision,
    differing_fields,
)
from edgeinspect.tools.replay.engine_selection import InspectorCache, ReplayOverrides
from edgeinspect.tools.replay.offline_line import OfflineLine
from edgeinspect.tools.replay.recording_scan import RecordingScan, scan_recording

MAX_LISTED_DIFFERENCES = 10_000
"""Most differences that are listed one by one; all are counted."""
NO_IMAGE = "no picture recorded"
NO_HISTORY = "frozen by pictures before the recording"
Show = Callable[[RecordedFrame, Pixels | None, Verdict], None]
"""Told of each frame that was judged again, with its verdict under its recorded numbers."""


def replay_recording(
    path: Path,
    overrides: ReplayOverrides,
    *,
    real_time: bool = False,
    on_replayed: Show = lambda recorded, pixels, verdict: None,
    progress: Callable[[int, int], None] = lambda done, frames: None,
) -> ReplaySummary:
    """Judge a recording again.

    Args:
        path: A recording file, or a folder of them.
        wanted: What shall be otherwise than it was.
        real_time: Keep the distances in time at which the frames were captured.
        show: Told of each frame.
        progress: Told of the frames done, and of how many there are.

    Raises:
        DataError: The recording is none, is damaged, or contradicts itself.
        ConfigError: A change to its configuration is wrong.
        ModelError: A model is refused, or is not the recorded one.
        MissingExtraError: A backend's library is not installed.
    """
    recording = open_recording(path)
    found = scan_recording(recording)
    run = _ReplayRun(found, overrides, on_replayed, str(path))
    pace = _FramePacer() if real_time else None
    try:
        for item in recording.items():
            if isinstance(item, ClockReading):
                run.utc_offset_ns = item.utc_ns - item.mono_ns
            elif isinstance(item, RecordedFrame):
                if pace is not None:
                    pace.wait(item.verdict.captured_at_utc_ns - run.utc_offset_ns)
                run.replay_frame(item)
                progress(run.summary.frames, found.frames)
    finally:
        run.close()
    return run.summary


class _FramePacer:
    """Sleeps as long as the line did between its frames."""

    def __init__(self) -> None:
        self._started: tuple[int, int] | None = None

    def wait(self, mono_ns: int) -> None:
        now_ns = time.monotonic_ns()
        if self._started is None:
            self._started = (now_ns, mono_ns)
        due_ns = self._started[0] + mono_ns - self._started[1]
        if due_ns > now_ns:
            time.sleep((due_ns - now_ns) / NS_PER_S)


class _FreezeHistory:
    """Whether all that a check of frozen pictures looks back on is in the recording."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._complete_frames: dict[str, int] = {}

    def add(self, verdict: Verdict, seen: bool) -> None:
        """Take a frame in; `seen` if its picture went through the capture again."""
        camera, place = verdict.camera, (verdict.epoch, verdict.frame)
        last = self._last.get(camera)
        if verdict.frame == 1:
            self._complete_frames[camera] = 1 << 30  # the daemon began here: there is no history
        elif last is None or (last[0], last[1] + 1) != place:
            self._complete_frames[camera] = 0
        self._complete_frames[camera] = self._complete_frames.get(camera, 0) + 1 if seen else 0
        self._last[camera] = place

    def is_incomplete(self, recorded: Verdict, replayed: Verdict, frozen_frames: int) -> bool:
        """True if two verdicts differ by pictures that nobody recorded."""
        frozen = any(
            verdict.reason is Reason.CAPTURE_HEALTH and verdict.detail.startswith("frozen")
            for verdict in (recorded, replayed)
        )
        return frozen and self._complete_frames.get(recorded.camera, 0) <= frozen_frames


class _ReplayRun:
    """One replay under way. One thread."""

    def __init__(
        self, found: RecordingScan, wanted: ReplayOverrides, show: Show, where: str
    ) -> None:
        self.utc_offset_ns = 0
        self.summary = ReplaySummary(
            line=found.line,
            missed=found.missed,
            changes=wanted.changes,
            cuts=found.cuts,
            clock_steps=found.clock_steps,
            other_machine=_machine_differences(found.machine),
            first_utc_ns=found.first_utc_ns,
            last_utc_ns=found.last_utc_ns,
        )
        self._segments = found.segments
        self._segment_index = -1
        self._on_replayed = show
        self._clock = ManualClock()
        self._inspectors = InspectorCache(found.configurations, wanted, self._clock, where)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="edgeinspect-replay-", dir=memory)
        self._line: OfflineLine | None = None
        self._epoch = 0
        self._history = _FreezeHistory()

    def replay_frame(self, recorded: RecordedFrame) -> None:
        """Judge one frame again and take it into the summary."""
        summary, verdict = self.summary, recorded.verdict
        self._advance_segment(summary.frames)
        summary.frames += 1
        cause = decided_by(verdict)
        stage = self._line_for(verdict)
        pixels = recorded.pixels()
        if (
            pixels is None
            and cause is not DecidedBy.CAMERA
            and verdict.reason is not Reason.RESTART
        ):
            self._history.add(verdict, seen=False)
            self._count_skipped(f"{NO_IMAGE}: {recorded.record.why_not[:80] or 'unknown why'}")
            return
        try:
            mono_ns = verdict.captured_at_utc_ns - self.utc_offset_ns
            replayed = stage.replay_frame(recorded, pixels, self._judge, mono_ns)
        except (ValueError, OverflowError, struct.error) as error:
            raise DataError(
                f"frame {verdict.seq} says what no line can have said: {error}",
                where=recorded.where,
            ) from error
        if verdict.reason is not Reason.RESTART:
            self._history.add(verdict, seen=pixels is not None)
        self._compare(verdict, replayed, cause)
        if pixels is not None and cause in (DecidedBy.TIME, DecidedBy.ENGINE):
            self._inspect_untimed(stage, pixels, verdict)
        numbers = {"seq": verdict.seq, "epoch": verdict.epoch, "frame": verdict.frame}
        self._on_replayed(recorded, pixels, msgspec.structs.replace(replayed, **numbers))

    def _advance_segment(self, frame: int) -> None:
        """Have the models judge that judged this frame, counted from 0."""
        while (
            self._segment_index + 1 < len(self._segments)
            and self._segments[self._segment_index + 1].first_frame <= frame
        ):
            self._segment_index += 1
            segment = self._segments[self._segment_index]
            self._judge = self._inspectors.inspector_for(segment)
            self._config = self._inspectors.config_for(segment.config_hash).config
            for role, ref in segment.models.items():
                _add_model(self.summary.recorded_models, role, model_name(ref))
            for role, ref in self._inspectors.current_models.items():
                _add_model(self.summary.models, role, model_name(ref))

    def _line_for(self, verdict: Verdict) -> OfflineLine:
        """The flow of the frame's epoch: a daemon that starts knows nothing of before."""
        if self._line is None or (
            verdict.epoch != self._epoch and verdict.reason is not Reason.RESTART
        ):
            if self._line is not None:
                self._line.close()
            folder = Path(self._folder.name) / f"{self.summary.frames}"
            folder.mkdir()
            shape = self._inspectors.frame_shape(self._judge)
            self._line = OfflineLine(folder, self._config, shape, self._judge, self._clock)
            self._epoch = verdict.epoch
        return self._line

    def _compare(self, recorded: Verdict, replayed: Verdict, cause: DecidedBy) -> None:
        summary = self.summary
        fields = (differing_decision if summary.has_overrides else differing_fields)(
            recorded, replayed
        )
        frozen_frames = self._config.capture.health.frozen_frames
        if fields and self._history.is_incomplete(recorded, replayed, frozen_frames):
            self._count_skipped(NO_HISTORY)
            return
        summary.compared += 1
        summary.decided_by[cause.value] = summary.decided_by.get(cause.value, 0) + 1
        summary.degraded += recorded.degraded and replayed.degraded
        summary.add_compared(recorded, replayed)
        if not fields:
            summary.equal += 1
            return
        summary.different += 1
        if len(summary.differences) < MAX_LISTED_DIFFERENCES:
            summary.differences.append(describe_difference(recorded, replayed, fields))

    def _inspect_untimed(self, stage: OfflineLine, pixels: Pixels, verdict: Verdict) -> None:
        """What the picture is like of a frame that had no time, or whose engine failed."""
        try:
            opinion = stage.inspect_untimed(pixels, self._judge)
        except EngineFault:
            decided = "engine fails again"
        else:
            if opinion is None:
                return
            decided = opinion.assessment.decision.value
        row = self.summary.opinions.setdefault(verdict.reason.value, {})
        row[decided] = row.get(decided, 0) + 1

    def _count_skipped(self, why: str) -> None:
        self.summary.not_compared[why] = self.summary.not_compared.get(why, 0) + 1

    def close(self) -> None:
        """Free everything."""
        if self._line is not None:
            self._line.close()
        self._inspectors.close()
        self._folder.cleanup()


def _add_model(models: dict[str, list[str]], role: str, name: str | None) -> None:
    known = models.setdefault(role, [])
    if name is not None and name not in known:
        known.append(name)


def _machine_differences(recorded: dict[str, str]) -> list[str]:
    here = describe_machine()
    return [
        f"{name}: recorded on {recorded.get(name, 'none')}, here {here.get(name, 'none')}"
        for name in sorted(recorded.keys() | here.keys())
        if recorded.get(name) != here.get(name)
    ]
