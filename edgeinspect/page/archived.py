"""Pictures out of a line's archive, which its own process keeps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeinspect.archive_format import SIDECAR, frame_folder, frame_name, read_sidecar
from edgeinspect.domain.verdict import Verdict
from edgeinspect.errors import DataError
from edgeinspect.page.drawing import encode_mask, encode_picture, encode_thumb
from edgeinspect.page.pictures import Picture

_MOST_BYTES = 256 << 20


def find(root: Path, verdict: Verdict) -> Picture | None:
    """The picture of a verdict, if the archive has it and it can be read.

    The path is made of the verdict's own line, camera, epoch and seq: nothing a browser sent.
    """
    sidecar = root / frame_folder(verdict) / f"{frame_name(verdict)}{SIDECAR}"
    try:
        told = read_sidecar(sidecar)
        name = told.picture.file
        if Path(name).name != name or told.picture.size_bytes > _MOST_BYTES:
            return None
        data = np.frombuffer(sidecar.with_name(name).read_bytes(), np.uint8)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (DataError, OSError, cv2.error):
        return None
    if pixels is None or pixels.dtype != np.uint8:
        return None
    shown = np.asarray(pixels[..., :3] if pixels.ndim == 3 else pixels, np.uint8)
    try:
        mask_png = encode_mask(told.mask) if told.mask is not None else None
    except DataError:
        mask_png = None
    height, width = shown.shape[:2]
    return Picture(
        verdict.seq, encode_picture(shown), mask_png, encode_thumb(shown, verdict.regions),
        height, width,
    )  # fmt: skip
