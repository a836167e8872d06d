"""Occlusion map: the gate's loss of logit where the image is covered. For any engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeinspect.ports import Engine

_PATCHES_ACROSS = 12
"""Patches along the shorter side."""


def occlusion_map(engine: Engine, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Cover the image patch by patch with its mean and run the gate each time.

    Args:
        engine: Of a gate.
        image: uint8 (H, W, C).

    Returns:
        (map float32 (h, w), at least 0: the loss of logit under each patch; the probability).
        Patches overlap by half.

    Raises:
        EngineFault: An inference failed.
    """
    height, width = image.shape[:2]
    side = max(4, round(min(height, width) / _PATCHES_ACROSS * 2))
    step = max(2, side // 2)
    tops, lefts = range(0, height, step), range(0, width, step)
    prob = float(engine.infer(image)[0][0])
    uncovered = _logit(prob)
    mean = image.mean(axis=(0, 1)).astype(np.uint8)
    loss = np.zeros((len(tops), len(lefts)), np.float32)
    covered = image.copy()
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            y, x = top + step // 2, left + step // 2
            area = (
                slice(max(0, y - side // 2), y + side // 2),
                slice(max(0, x - side // 2), x + side // 2),
            )
            original = covered[area].copy()
            covered[area] = mean
            loss[row, column] = uncovered - _logit(float(engine.infer(covered)[0][0]))
            covered[area] = original
    return np.maximum(loss, 0), prob


def _logit(prob: float) -> float:
    clipped = min(1 - 1e-7, max(1e-7, prob))
    return float(np.log(clipped / (1 - clipped)))
