"""Inspection: engines, the decision, worker threads."""

from edgeinspect.pipeline.inspection.decision import (
    ClassLimits,
    DecisionRules,
    GateLimits,
    KindLimits,
    UnknownLimits,
    decide_by_gate,
    decide_by_regions,
    decide_by_unknown,
)
from edgeinspect.pipeline.inspection.engine_swap import EngineSwap
from edgeinspect.pipeline.inspection.frame_inspector import (
    FrameInspector,
    UntimedResult,
    WorkerEngines,
)
from edgeinspect.pipeline.inspection.from_config import decision_rules, make_frame_inspectors
from edgeinspect.pipeline.inspection.worker import InspectionWorker, make_fault_logger

__all__ = [
    # decision
    "ClassLimits",
    "DecisionRules",
    "GateLimits",
    "KindLimits",
    "UnknownLimits",
    "decide_by_unknown",
    "decide_by_gate",
    "decide_by_regions",
    # engine swap
    "EngineSwap",
    # frame inspector
    "FrameInspector",
    "UntimedResult",
    "WorkerEngines",
    # from config
    "decision_rules",
    "make_frame_inspectors",
    # worker
    "InspectionWorker",
    "make_fault_logger",
]
