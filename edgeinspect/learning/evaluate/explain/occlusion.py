"""Occlusion: what the gate's probability loses where the picture is covered. For any engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeinspect.ports import Engine

_PATCHES_ACROSS = 12
"""Patches along the shorter side."""


def occlusion_map(engine: Engine, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
    """Cover the picture patch by patch with its own mean and ask the gate again.

    Args:
        engine: Of a gate.
        image: uint8 (H, W, C).

    Returns:
        (map float32 (h, w), at least 0: the loss of logit under each patch; the probability).
        Patches are half as far apart as they are wide.

    Raises:
        EngineFault: An inference failed.
    """
    height, width = image.shape[:2]
    side = max(4, round(min(height, width) / _PATCHES_ACROSS * 2))
    step = max(2, side // 2)
    tops, lefts = range(0, height, step), range(0, width, step)
    prob = float(engine.infer(image)[0][0])
    base = _logit(prob)
    grey = image.mean(axis=(0, 1)).astype(np.uint8)
    loss = np.zeros((len(tops), len(lefts)), np.float32)
    covered = image.copy()
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            middle_y, middle_x = top + step // 2, left + step // 2
            area = (
                slice(max(0, middle_y - side // 2), middle_y + side // 2),
                slice(max(0, middle_x - side // 2), middle_x + side // 2),
            )
            kept = covered[area].copy()
            covered[area] = grey
            loss[row, column] = base - _logit(float(engine.infer(covered)[0][0]))
            covered[area] = kept
    return np.maximum(loss, 0), prob


def _logit(prob: float) -> float:
    clipped = min(1 - 1e-7, max(1e-7, prob))
    return float(np.log(clipped / (1 - clipped)))
