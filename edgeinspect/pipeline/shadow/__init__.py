"""Shadow: a candidate model inspects copies of frames in idle time."""

from edgeinspect.pipeline.shadow.process import ShadowProcess, find_candidates, make_plan

__all__ = [
    # process
    "ShadowProcess",
    "find_candidates",
    "make_plan",
]
