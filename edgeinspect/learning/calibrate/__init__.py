"""Post-training quantisation: calibrates an FP32 model to INT8 and verifies the result.

Needs the extras `onnx` and `cpu`; torch is not needed.
Source: docs/howto/calibration.md, docs/explanation/decisions/0012-calibration.md
"""

from edgeinspect.learning.calibrate.acceptance import AcceptanceResult, evaluate_acceptance
from edgeinspect.learning.calibrate.acceptance_checks import AcceptanceLimits
from edgeinspect.learning.calibrate.calibration import CalibrationResult, calibrate
from edgeinspect.learning.calibrate.config import CalibrationConfig
from edgeinspect.learning.calibrate.frames import FrameSet, open_frames
from edgeinspect.learning.calibrate.report import render_report
from edgeinspect.learning.calibrate.sampling import UNREADABLE
from edgeinspect.learning.calibrate.sessions import open_engine
from edgeinspect.learning.calibrate.write_version import (
    REPORTS_DIR,
    score_section,
    threshold_section,
    write_reports,
    write_version,
)

__all__ = [
    # calibrating a model
    "CalibrationConfig",
    "CalibrationResult",
    "calibrate",
    # frames to calibrate and verify with
    "UNREADABLE",
    "FrameSet",
    "open_engine",
    "open_frames",
    # acceptance
    "AcceptanceLimits",
    "AcceptanceResult",
    "evaluate_acceptance",
    # results
    "REPORTS_DIR",
    "render_report",
    "score_section",
    "threshold_section",
    "write_reports",
    "write_version",
]
