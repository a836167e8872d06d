"""Small data sets on disk, and results built by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult

GOOD_GRAY = 120
"""Gray level of a good image: neither dark nor bright to the tiny segmenter."""


def make_image(kind: str, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(image, mask) uint8 (32, 48): `good`, `dark` or `bright`."""
    rng = np.random.default_rng(seed)
    image = rng.integers(GOOD_GRAY - 10, GOOD_GRAY + 10, (32, 48)).astype(np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    if kind != "good":
        top, left = (int(each) for each in rng.integers(2, (16, 24)) // 2 * 2)
        image[top : top + 10, left : left + 12] = 10 if kind == "dark" else 250
        mask[top : top + 10, left : left + 12] = 1 if kind == "dark" else 2
    return image, mask


def write_dataset(root: Path, kinds: list[str], *, split: str = "test") -> Path:
    """A folder with images/, masks/ and index.csv."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rows = ["image,split,dark_px,bright_px"]
    for index, kind in enumerate(kinds):
        image, mask = make_image(kind, index)
        name = f"p{index:03d}.png"
        cv2.imwrite(str(root / "images" / name), image)
        cv2.imwrite(str(root / "masks" / name), mask)
        rows.append(f"{name},{split},{(mask == 1).sum()},{(mask == 2).sum()}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


def make_result(
    name: str,
    *,
    is_defective: bool,
    is_rejected: bool,
    prob: float | None = None,
    confusion: NDArray[np.int64] | None = None,
) -> FrameResult:
    return FrameResult(name, is_defective, is_rejected, "gate", prob, prob or 0.0, confusion)
