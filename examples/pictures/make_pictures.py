"""Render the pictures of this folder again: `python examples/pictures/make_pictures.py`."""

from __future__ import annotations

from pathlib import Path

import cv2

from edgeinspect.imaging import render_strip

SEED = 2026
"""A coil that the shipped models were not trained on."""
PICTURES: dict[str, tuple[int, int, int]] = {
    "clean.png": (3, 256, 1600),
    "scratches.png": (94, 256, 1600),
    "pits.png": (101, 256, 1600),
    "inclusion.png": (104, 256, 1600),
    "patch.png": (69, 256, 1600),
    "scratch-half-size.png": (8, 128, 800),
}
"""File name to (index on the coil, height, width in px)."""


def main() -> None:
    """Write every picture beside this script."""
    folder = Path(__file__).resolve().parent
    for name, (index, height_px, width_px) in PICTURES.items():
        picture = render_strip(SEED, index, 256, 1600).image
        if picture.shape != (height_px, width_px):
            picture = cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / name), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
