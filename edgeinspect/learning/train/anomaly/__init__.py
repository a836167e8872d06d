"""Good-parts models: a memory bank of good parts' features finds what no good part has."""

from edgeinspect.learning.train.anomaly.config import (
    DEFAULT_CLASS,
    DEFAULT_ENCODER,
    DEFAULT_ENTRIES,
    DEFAULT_FALSE_REJECTS,
    AnomalyConfig,
)
from edgeinspect.learning.train.anomaly.good_parts import train_good_parts

__all__ = [
    "DEFAULT_CLASS",
    "DEFAULT_ENCODER",
    "DEFAULT_ENTRIES",
    "DEFAULT_FALSE_REJECTS",
    "AnomalyConfig",
    "train_good_parts",
]
