"""Supervision: liveness, alarms, the status once a second."""

from edgeinspect.pipeline.supervision.alarms import AlarmEvaluator
from edgeinspect.pipeline.supervision.liveness import make_liveness_monitors
from edgeinspect.pipeline.supervision.status_reporter import StatusReporter, log_fields

__all__ = [
    # alarms
    "AlarmEvaluator",
    # liveness
    "make_liveness_monitors",
    # status reporter
    "StatusReporter",
    "log_fields",
]
