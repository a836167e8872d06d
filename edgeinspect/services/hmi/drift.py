"""Drift of gate scores and of the brightness and sharpness of frames.

The population stability index compares the newest gate scores with the first ones of the same
gate on this line. By convention, below 0.1 is stable and above 0.25 a large change.
Source: Siddiqi, Credit Risk Scorecards (2006), on the index; docs/reference/metrics.md.
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
    """Reference distribution of a gate's scores: edges between bins, and the share of each."""

    sha256: str
    """SHA-256 of the gate's file."""
    edges: list[float]
    shares: list[float]
    frames: Int64


def make_reference(sha256: str, scores: Sequence[float]) -> ScoreReference:
    """Return bins of equal share, as far as possible: many scores are often equal."""
    values = np.asarray(scores, np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return ScoreReference(sha256, edges.tolist(), _bin_shares(values, edges).tolist(), len(values))


def stability_index(reference: ScoreReference, scores: Sequence[float]) -> float:
    """Return the population stability index against a reference; 0 for the same distribution."""
    expected = np.asarray(reference.shares)
    actual = _bin_shares(np.asarray(scores, np.float64), np.asarray(reference.edges))
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _bin_shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each bin; half a frame is added to each, so none is 0."""
    counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum())


def mean_brightness(pixels: Pixels) -> float:
    """Return the mean grey level, 0 to 255."""
    return float(pixels.mean())


def laplacian_sharpness(pixels: Pixels) -> float:
    """Return the variance of the Laplacian of the centre of a uint8 (H, W, C) image.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy (2000)
    """
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _CROP_PX) // 2), max(0, (width - _CROP_PX) // 2)
    middle = np.ascontiguousarray(pixels[top : top + _CROP_PX, left : left + _CROP_PX, 0])
    return float(cv2.Laplacian(middle, cv2.CV_64F).var())


class DriftMonitor:
    """Newest scores, and reference scores of the current gate. Thread-safe.

    Args:
        line: Part of the reference's file name.
        reference_frames: Number of first scores in the reference.
        window_frames: Number of newest scores compared with it.
        folder: Stores references across restarts; None to keep them in memory.
    """

    def __init__(
        self, line: str, reference_frames: int, window_frames: int, folder: Path | None
    ) -> None:
        self.image_stats: dict[str, tuple[float, float]] = {}
        """(brightness, sharpness) of the newest sampled frame, by camera."""
        self.reference_frames = reference_frames
        """Number of first scores in a reference."""
        self._line = line
        self._recent_scores: deque[float] = deque(maxlen=window_frames)
        self._folder = folder
        self._lock = threading.Lock()
        self._sha256 = ""
        self._first_scores: list[float] = []
        self._reference: ScoreReference | None = None

    @property
    def reference(self) -> ScoreReference | None:
        """The reference; None until there are enough scores."""
        return self._reference

    def start_model(self, sha256: str, first_scores: Sequence[float]) -> None:
        """Switch to another gate; `first_scores` are its first ones on this line."""
        with self._lock:
            self._sha256 = sha256
            self._recent_scores.clear()
            self._reference = self._read_reference()
            self._first_scores = list(first_scores)
            self._build_reference()

    def add_score(self, sha256: str, score: float) -> bool:
        """Add a score; return False if `start_model` was not called for its gate."""
        with self._lock:
            if sha256 != self._sha256:
                return False
            self._recent_scores.append(score)
            if self._reference is None:
                self._first_scores.append(score)
                self._build_reference()
            return True

    def current_index(self) -> float | None:
        """Return the stability index of the newest scores; None while there are too few."""
        with self._lock:
            if self._reference is None or len(self._recent_scores) < _MIN_WINDOW_FRAMES:
                return None
            window = list(self._recent_scores)
        return stability_index(self._reference, window)

    def _build_reference(self) -> None:
        if self._reference is None and len(self._first_scores) >= self.reference_frames:
            self._reference = make_reference(
                self._sha256, self._first_scores[: self.reference_frames]
            )
            self._first_scores = []
            self._write_reference(self._reference)

    def _reference_path(self) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / f"{self._line}.{self._sha256[:12]}.scores.json"

    def _read_reference(self) -> ScoreReference | None:
        path = self._reference_path()
        if path is None:
            return None
        try:
            reference = decode_json(read_regular(path, TEXT_BYTES_MAX), ScoreReference)
        except (OSError, DecodeError):  # missing or damaged: it is built again
            return None
        return reference if self._is_usable(reference) else None

    def _is_usable(self, reference: ScoreReference) -> bool:
        return (
            reference.sha256 == self._sha256
            and len(reference.shares) == len(reference.edges) + 1
            and all(0 < share <= 1 for share in reference.shares)
            and all(low < high for low, high in itertools.pairwise(reference.edges))
        )

    def _write_reference(self, reference: ScoreReference) -> None:
        path = self._reference_path()
        if path is None:
            return
        # On failure the reference stays in memory.
        with suppress(OSError):
            write_atomic(path, msgspec.json.encode(reference))
