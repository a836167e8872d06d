"""Rescoring: one model over an archive of millions of frames, on Ray Data.

`plan` fixes which frames, in chunks; `scorer` scores a chunk; `runners` distribute chunks over
processors or machines; `run` writes a result file per chunk, so that a run can be resumed.

Source: docs/howto/plant.md
"""

from edgeinspect.tools.rescore.run import RescoreResult, rescore
from edgeinspect.tools.rescore.runners import ChunkRunner, LocalRunner, RayRunner
from edgeinspect.tools.rescore.scorer import FrameScorer, ScorerConfig, read_model_spec

__all__ = [
    # the run
    "RescoreResult",
    "rescore",
    # where it runs
    "ChunkRunner",
    "LocalRunner",
    "RayRunner",
    # scoring
    "FrameScorer",
    "ScorerConfig",
    "read_model_spec",
]
