"""Drift: whether pictures and the gate's scores are still what they were.

The population stability index of the gate's scores compares the newest window with the
first frames that this very gate judged on this line. Below 0.1 nothing has changed, above
0.25 much has: a usual reading, not a law.
Source: Siddiqi, Credit Risk Scorecards (2006), on the index; docs/metrics.md.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Int64, Pixels
from edgeinspect.system import TEXT_BYTES_MAX, DecodeError, decode_json, read_regular, write_atomic

BINS = 10
_MIN_WINDOW_FRAMES = 200
_CROP_PX = 512


class ScoreReference(msgspec.Struct, frozen=True):
    """The gate's scores as they were: edges between bins and the share of each."""

    sha256: str
    """Of the gate's file."""
    edges: list[float]
    shares: list[float]
    frames: Int64


def make_reference(sha256: str, scores: Sequence[float]) -> ScoreReference:
    """Bins of equal share where the scores allow it: many are often the same number."""
    values = np.asarray(scores, np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return ScoreReference(sha256, edges.tolist(), _bin_shares(values, edges).tolist(), len(values))


def stability_index(reference: ScoreReference, scores: Sequence[float]) -> float:
    """Population stability index of scores against a reference; 0 for the same distribution."""
    expected = np.asarray(reference.shares)
    actual = _bin_shares(np.asarray(scores, np.float64), np.asarray(reference.edges))
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _bin_shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each bin, with half a frame added to each: no bin is empty."""
    counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum())


def mean_brightness(pixels: Pixels) -> float:
    """Mean grey level, 0 to 255."""
    return float(pixels.mean())


def laplacian_sharpness(pixels: Pixels) -> float:
    """Variance of the Laplacian of the middle of a uint8 (H, W, C) picture: falls with blur.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (2000)
    """
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _CROP_PX) // 2), max(0, (width - _CROP_PX) // 2)
    middle = np.ascontiguousarray(pixels[top : top + _CROP_PX, left : left + _CROP_PX, 0])
    return float(cv2.Laplacian(middle, cv2.CV_64F).var())


class DriftMonitor:
    """Keeps the newest scores and the reference of the gate that judges. Thread-safe.

    Args:
        line: Names the file of the reference.
        reference_frames: Scores that make a reference.
        window_frames: The newest scores that are compared.
        folder: Where references are kept over restarts; None for memory alone.
    """

    def __init__(
        self, line: str, reference_frames: int, window_frames: int, folder: Path | None
    ) -> None:
        self.image_stats: dict[str, tuple[float, float]] = {}
        """Brightness and sharpness of the newest picture looked at, by camera."""
        self._line = line
        self._reference_frames = reference_frames
        self._recent_scores: deque[float] = deque(maxlen=window_frames)
        self._folder = folder
        self._lock = threading.Lock()
        self._sha256 = ""
        self._first_scores: list[float] = []
        self._reference: ScoreReference | None = None

    @property
    def reference(self) -> ScoreReference | None:
        """What the scores are compared with; None until there are enough."""
        return self._reference

    def start_model(self, sha256: str, first_scores: Sequence[float]) -> None:
        """Another gate judges from here on; `earlier` are its first scores on this line."""
        with self._lock:
            self._sha256 = sha256
            self._recent_scores.clear()
            self._reference = self._read_reference()
            self._first_scores = list(first_scores)
            self._build_reference()

    def add_score(self, sha256: str, score: float) -> bool:
        """One score; False if it is of a gate that was not begun."""
        with self._lock:
            if sha256 != self._sha256:
                return False
            self._recent_scores.append(score)
            if self._reference is None:
                self._first_scores.append(score)
                self._build_reference()
            return True

    def current_index(self) -> float | None:
        """The stability index of the window; None while there is too little to tell."""
        with self._lock:
            if self._reference is None or len(self._recent_scores) < _MIN_WINDOW_FRAMES:
                return None
            window = list(self._recent_scores)
        return stability_index(self._reference, window)

    def _build_reference(self) -> None:
        if self._reference is None and len(self._first_scores) >= self._reference_frames:
            self._reference = make_reference(
                self._sha256, self._first_scores[: self._reference_frames]
            )
            self._first_scores = []
            self._write_reference(self._reference)

    def _reference_path(self) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{self._line}.{self._sha256[:12]}.scores.json"

    def _read_reference(self) -> ScoreReference | None:
        path = self._reference_path()
        try:
            found = (
                decode_json(read_regular(path, TEXT_BYTES_MAX), ScoreReference) if path else None
            )
        except (OSError, DecodeError):  # none yet, or damaged: it is made anew
            return None
        return found if found is not None and self._is_usable(found) else None

    def _is_usable(self, found: ScoreReference) -> bool:
        return (
            found.sha256 == self._sha256
            and len(found.shares) == len(found.edges) + 1
            and all(0 < share <= 1 for share in found.shares)
            and all(low < high for low, high in itertools.pairwise(found.edges))
        )

    def _write_reference(self, reference: ScoreReference) -> None:
        path = self._reference_path()
        if path is None:
            return
        # Without it the index works, and starts from scratch after a restart.
        with suppress(OSError):
            write_atomic(path, msgspec.json.encode(reference))
