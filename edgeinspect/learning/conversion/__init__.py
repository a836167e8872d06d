"""TensorRT plans for this machine's GPU, and FP16 versions of models."""

from edgeinspect.learning.conversion.fp16_version import Fp16Conversion, make_fp16_version
from edgeinspect.learning.conversion.plans import (
    PlanRequest,
    build_plan,
    inspect_plan,
    plan_requests,
    precision_ratio,
)

__all__ = [
    # FP16 versions
    "Fp16Conversion",
    "make_fp16_version",
    # plans
    "PlanRequest",
    "build_plan",
    "inspect_plan",
    "plan_requests",
    "precision_ratio",
]
