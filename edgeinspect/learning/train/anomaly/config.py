"""The user's options of a training from good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ENCODER = "lite0"
DEFAULT_ENTRIES = 8000
DEFAULT_FALSE_REJECTS = 0.01
DEFAULT_CLASS = "unknown"


@dataclass(frozen=True, slots=True)
class AnomalyConfig:
    """The options of one training."""

    data: Path
    out: Path
    name: str
    size: tuple[int, int] | None = None
    """(height, width) px of the frame; chosen by the images' own when None."""
    channels: int | None = None
    """1 grey, 3 colour; the images' own when None."""
    encoder: str = DEFAULT_ENCODER
    weights: Path | None = None
    """Of the encoder; those of its package when None."""
    entries: int = DEFAULT_ENTRIES
    """Of the memory bank, at most."""
    false_rejects: float = DEFAULT_FALSE_REJECTS
    """The wanted rate, 0 to 1."""
    class_name: str = DEFAULT_CLASS
    turned: bool | None = None
    """Whether good parts may lie in other orientations than in their images; None to measure."""
    seed: int = 1
    threads: int = 2
    split_file: Path | None = None
    layout: str | None = None
    good_classes: Sequence[str] = ()
