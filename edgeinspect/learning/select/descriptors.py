"""Descriptors of images, for the distance between them: a gate's own features, or thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.errors import EdgeInspectError
from edgeinspect.imaging import to_channels
from edgeinspect.learning.evaluate.explain.grad_cam import SplitGraph, split_graph

Describe = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Returns the descriptor of a frame, uint8 (H, W, C)."""

_THUMBNAIL_PX = 16
_LEVELS = 16
_GRID = 4
_MAX_DIMENSIONS = 32
_MIN_SPREAD = 0.25
"""Of the largest spread."""


def choose_descriptor(specs: Sequence[ModelSpec]) -> tuple[int, Describe, str]:
    """Return which model's frame is described, how, and in words.

    A gate's deepest feature map knows what matters for its decision. Without a gate whose graph
    can be split (or without the package onnx), brightness, detail and a thumbnail are used.
    """
    for index, spec in enumerate(specs):
        if spec.kind is not ModelKind.GATE or spec.path.suffix != ".onnx":
            continue
        try:
            graph = split_graph(spec.path)
        except EdgeInspectError:
            continue
        if graph is not None:
            return index, _feature_descriptor(graph), f"the features of {spec.id}"
    return 0, describe_thumbnail, "brightness, detail and thumbnails"


def describe_thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (288,): thumbnail, grey levels, and strength of detail on a grid."""
    grey = to_channels(frame, 1)[:, :, 0].astype(np.float32)
    small = cv2.resize(grey, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    levels = np.histogram(grey, _LEVELS, (0, 256))[0] / grey.size
    detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2))
    strength = cv2.resize(detail, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    parts = (small.ravel() / 64, np.sqrt(levels) * 4, np.log1p(strength.ravel()) * 2)
    return np.concatenate(parts).astype(np.float32)


def scale_descriptors(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, D) principal components of standardised descriptors.

    A dimension that hardly varies is not raised to the spread of the others: it is noise.
    """
    centred = descriptors - descriptors.mean(axis=0)
    spread = centred.std(axis=0)
    scaled = centred / np.maximum(spread, _MIN_SPREAD * float(spread.max(initial=0.0)) + 1e-6)
    _rows, _strength, axes = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(scaled @ axes[:_MAX_DIMENSIONS].T, np.float32)


def _feature_descriptor(graph: SplitGraph) -> Describe:
    def describe(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = np.asarray(graph.head.run([graph.tensor], {"image": frame[None]})[0][0])
        pooled = (features.mean(axis=(1, 2)), features.max(axis=(1, 2)))
        return np.concatenate(pooled).astype(np.float32)

    return describe
