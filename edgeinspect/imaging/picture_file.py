"""Reading one picture file into the line's pixel layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeinspect.domain.frame import Pixels

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"))
"""File names that count as pictures."""


def read_picture(path: Path, color: str) -> Pixels | None:
    """uint8 (h, w, c) pixels of a file, or None if it is not a picture.

    16-bit pictures are scaled to 8 bits by OpenCV.

    Args:
        path: The file.
        color: `mono`, `bgr` or `rgb`, the order to read into.

    Raises:
        OSError: The file cannot be read.
    """
    mode = cv2.IMREAD_GRAYSCALE if color == "mono" else cv2.IMREAD_COLOR
    data = np.fromfile(path, np.uint8)
    try:
        picture = cv2.imdecode(data, mode) if data.size else None
    except cv2.error:
        picture = None
    if picture is None:
        return None
    if color == "rgb":
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    pixels = picture.astype(np.uint8, copy=False)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
