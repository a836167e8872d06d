"""The images that an import is verified on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeinspect.domain import Pixels
from edgeinspect.errors import DataError
from edgeinspect.imaging import letterbox_image, load_declaration, read_image
from edgeinspect.learning.datasets import find_bit_depth, images_below
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest
from edgeinspect.system import escape_name


def read_samples(
    folder: Path, request: ImportRequest, max_samples: int
) -> list[tuple[str, Pixels]]:
    """Return names and frames uint8 (H, W, C) of images, letterboxed if of another size.

    Raises:
        DataError: The folder does not exist, or contains no readable image.
    """
    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            where=str(folder),
            remedy="Name a folder of images with --samples",
        )
    files = sorted(images_below(folder))
    depth = find_bit_depth(files, load_declaration(folder), escape_name(folder))
    if len(files) > max_samples:
        files = [
            files[round(i * (len(files) - 1) / max(1, max_samples - 1))] for i in range(max_samples)
        ]
    color = "mono" if request.channels == 1 else request.frame_color
    reading, frames, first_error = depth.read_settings(color), [], None
    for path in files:
        try:
            image = read_image(path, reading)
        except DataError as error:
            first_error = first_error or error
            continue
        frame, _scale, _left, _top = letterbox_image(image, request.height_px, request.width_px)
        frames.append((escape_name(path.relative_to(folder)), np.ascontiguousarray(frame)))
    if not frames:
        raise DataError(
            "contains no readable image" + (f"; the first: {first_error}" if first_error else ""),
            where=str(folder),
            remedy="The import is verified on images: give some",
        )
    return frames
