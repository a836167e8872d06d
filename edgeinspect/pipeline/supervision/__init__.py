"""Supervision: liveness, alarms, periodic status and log of inspected images."""

from edgeinspect.pipeline.supervision.alarms import AlarmEvaluator
from edgeinspect.pipeline.supervision.liveness import MonitoredThreads, make_liveness_monitors
from edgeinspect.pipeline.supervision.status_reporter import StatusReporter, log_fields

__all__ = [
    # alarms
    "AlarmEvaluator",
    # liveness
    "MonitoredThreads",
    "make_liveness_monitors",
    # status reporter
    "StatusReporter",
    "log_fields",
]
