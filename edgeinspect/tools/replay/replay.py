"""The replay: every recorded frame is inspected again and compared with its verdict."""

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
from edgeinspect.tools.replay.compare import (
    DecisionCause,
    ReplaySummary,
    decided_by,
    describe_difference,
    differing_decision,
    differing_fields,
)
from edgeinspect.tools.replay.engine_selection import InspectorCache, ReplayOverrides
from edgeinspect.tools.replay.offline_line import OfflineLine
from edgeinspect.tools.replay.recording_scan import RecordingScan, scan_recording

MAX_LISTED_DIFFERENCES = 10_000
"""Differences that are listed individually; all are counted."""
NO_IMAGE = "no image recorded"
NO_HISTORY = "frozen by images before the recording"
OnReplayed = Callable[[RecordedFrame, Pixels | None, Verdict], None]
"""Receives each replayed frame, its pixels, and its new verdict with the recorded numbers."""


def replay_recording(
    path: Path,
    overrides: ReplayOverrides,
    *,
    real_time: bool = False,
    on_replayed: OnReplayed = lambda recorded, pixels, verdict: None,
    progress: Callable[[int, int], None] = lambda done, frames: None,
) -> ReplaySummary:
    """Inspect a recording again.

    Args:
        path: A recording file, or a folder of them.
        overrides: What differs from the recorded line.
        real_time: Keep the recorded times between frames.
        on_replayed: Called for each frame.
        progress: Called with the frames done and their total.

    Raises:
        DataError: The file is not a recording, is damaged, or contradicts itself.
        ConfigError: An override of its configuration is invalid.
        ModelError: A model is rejected, or is not the recorded one.
        MissingExtraError: A backend's library is not installed.
    """
    recording = open_recording(path)
    scan = scan_recording(recording)
    run = _ReplayRun(scan, overrides, on_replayed, str(path))
    pace = _FramePacer() if real_time else None
    try:
        for item in recording.items():
            if isinstance(item, ClockReading):
                run.utc_offset_ns = item.utc_ns - item.mono_ns
            elif isinstance(item, RecordedFrame):
                if pace is not None:
                    pace.wait(item.verdict.captured_at_utc_ns - run.utc_offset_ns)
                run.replay_frame(item)
                progress(run.summary.frames, scan.frames)
    finally:
        run.close()
    return run.summary


class _FramePacer:
    """Sleeps for the recorded time between frames."""

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
    """Tracks whether the recording contains the history that the check for frozen images needs."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._complete_frames: dict[str, int] = {}

    def add(self, verdict: Verdict, seen: bool) -> None:
        """Add a frame; `seen` if its image was captured again."""
        camera, place = verdict.camera, (verdict.epoch, verdict.frame)
        last = self._last.get(camera)
        if verdict.frame == 1:
            self._complete_frames[camera] = 1 << 30  # the daemon started here: there is no history
        elif last is None or (last[0], last[1] + 1) != place:
            self._complete_frames[camera] = 0
        self._complete_frames[camera] = self._complete_frames.get(camera, 0) + 1 if seen else 0
        self._last[camera] = place

    def is_incomplete(self, recorded: Verdict, replayed: Verdict, frozen_frames: int) -> bool:
        """Return True if two verdicts may differ because of images that were not recorded."""
        frozen = any(
            verdict.reason is Reason.CAPTURE_HEALTH and verdict.detail.startswith("frozen")
            for verdict in (recorded, replayed)
        )
        return frozen and self._complete_frames.get(recorded.camera, 0) <= frozen_frames


class _ReplayRun:
    """State of one replay. Not thread-safe."""

    def __init__(
        self, scan: RecordingScan, overrides: ReplayOverrides, on_replayed: OnReplayed, where: str
    ) -> None:
        self.utc_offset_ns = 0
        self.summary = ReplaySummary(
            line=scan.line,
            missed=scan.missed,
            changes=overrides.changes,
            cuts=scan.cuts,
            clock_steps=scan.clock_steps,
            other_machine=_machine_differences(scan.machine),
            first_utc_ns=scan.first_utc_ns,
            last_utc_ns=scan.last_utc_ns,
        )
        self._segments = scan.segments
        self._segment_index = -1
        self._on_replayed = on_replayed
        self._clock = ManualClock()
        self._inspectors = InspectorCache(scan.configurations, overrides, self._clock, where)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = tempfile.TemporaryDirectory(prefix="edgeinspect-replay-", dir=memory)
        self._line: OfflineLine | None = None
        self._epoch = 0
        self._history = _FreezeHistory()

    def replay_frame(self, recorded: RecordedFrame) -> None:
        """Inspect one frame again and add it to the summary."""
        summary, verdict = self.summary, recorded.verdict
        self._advance_segment(summary.frames)
        summary.frames += 1
        decider = decided_by(verdict)
        line = self._line_for(verdict)
        pixels = recorded.pixels()
        if (
            pixels is None
            and decider is not DecisionCause.CAMERA
            and verdict.reason is not Reason.RESTART
        ):
            self._history.add(verdict, seen=False)
            self._count_skipped(f"{NO_IMAGE}: {recorded.record.why_not[:80] or 'unknown reason'}")
            return
        try:
            mono_ns = verdict.captured_at_utc_ns - self.utc_offset_ns
            replayed = line.replay_frame(recorded, pixels, self._inspector, mono_ns)
        except (ValueError, OverflowError, struct.error) as error:
            raise DataError(
                f"frame {verdict.seq} has values that no line writes: {error}",
                where=recorded.where,
            ) from error
        if verdict.reason is not Reason.RESTART:
            self._history.add(verdict, seen=pixels is not None)
        self._compare(verdict, replayed, decider)
        if pixels is not None and decider in (DecisionCause.TIME, DecisionCause.ENGINE):
            self._inspect_untimed(line, pixels, verdict)
        numbers = {"seq": verdict.seq, "epoch": verdict.epoch, "frame": verdict.frame}
        self._on_replayed(recorded, pixels, msgspec.structs.replace(replayed, **numbers))

    def _advance_segment(self, frame: int) -> None:
        """Switch to the models and configuration of this frame, counted from 0."""
        while (
            self._segment_index + 1 < len(self._segments)
            and self._segments[self._segment_index + 1].first_frame <= frame
        ):
            self._segment_index += 1
            segment = self._segments[self._segment_index]
            self._inspector = self._inspectors.inspector_for(segment)
            self._config = self._inspectors.config_for(segment.config_hash).config
            for role, ref in segment.models.items():
                _add_model(self.summary.recorded_models, role, model_name(ref))
            for role, ref in self._inspectors.current_models.items():
                _add_model(self.summary.models, role, model_name(ref))

    def _line_for(self, verdict: Verdict) -> OfflineLine:
        """Return the offline line of the frame's epoch; each start of the daemon has its own."""
        if self._line is None or (
            verdict.epoch != self._epoch and verdict.reason is not Reason.RESTART
        ):
            if self._line is not None:
                self._line.close()
            folder = Path(self._folder.name) / f"{self.summary.frames}"
            folder.mkdir()
            shape = self._inspectors.frame_shape(self._inspector)
            self._line = OfflineLine(folder, self._config, shape, self._inspector, self._clock)
            self._epoch = verdict.epoch
        return self._line

    def _compare(self, recorded: Verdict, replayed: Verdict, decider: DecisionCause) -> None:
        summary = self.summary
        fields = (differing_decision if summary.has_overrides else differing_fields)(
            recorded, replayed
        )
        frozen_frames = self._config.capture.health.frozen_frames
        if fields and self._history.is_incomplete(recorded, replayed, frozen_frames):
            self._count_skipped(NO_HISTORY)
            return
        summary.compared += 1
        summary.decided_by[decider.value] = summary.decided_by.get(decider.value, 0) + 1
        summary.degraded += recorded.degraded and replayed.degraded
        summary.add_compared(recorded, replayed)
        if not fields:
            summary.equal += 1
            return
        summary.different += 1
        if len(summary.differences) < MAX_LISTED_DIFFERENCES:
            summary.differences.append(describe_difference(recorded, replayed, fields))

    def _inspect_untimed(self, line: OfflineLine, pixels: Pixels, verdict: Verdict) -> None:
        """Count what the image of a frame without a verdict gives now."""
        try:
            untimed = line.inspect_untimed(pixels, self._inspector)
        except EngineFault:
            decided = "engine fails again"
        else:
            if untimed is None:
                return
            decided = untimed.assessment.decision.value
        row = self.summary.opinions.setdefault(verdict.reason.value, {})
        row[decided] = row.get(decided, 0) + 1

    def _count_skipped(self, reason: str) -> None:
        self.summary.not_compared[reason] = self.summary.not_compared.get(reason, 0) + 1

    def close(self) -> None:
        """Release everything."""
        if self._line is not None:
            self._line.close()
        self._inspectors.close()
        self._folder.cleanup()


def _add_model(models: dict[str, list[str]], role: str, name: str | None) -> None:
    names = models.setdefault(role, [])
    if name is not None and name not in names:
        names.append(name)


def _machine_differences(recorded: dict[str, str]) -> list[str]:
    current = describe_machine()
    return [
        f"{name}: recorded on {recorded.get(name, 'none')}, here {current.get(name, 'none')}"
        for name in sorted(recorded.keys() | current.keys())
        if recorded.get(name) != current.get(name)
    ]
