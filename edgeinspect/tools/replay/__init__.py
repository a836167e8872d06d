"""Replay: a recorded shift runs through the line's own pipeline again, on a manual clock.

Source: docs/explanation/decisions/0014-recordings.md, docs/howto/replay.md
"""

from edgeinspect.tools.replay.compare import ReplaySummary, VerdictSummary
from edgeinspect.tools.replay.engine_selection import ReplayOverrides, models_by_role
from edgeinspect.tools.replay.export import RecordingExporter
from edgeinspect.tools.replay.replay import replay_recording

__all__ = [
    # the replay
    "ReplayOverrides",
    "models_by_role",
    "replay_recording",
    # its results
    "RecordingExporter",
    "ReplaySummary",
    "VerdictSummary",
]
