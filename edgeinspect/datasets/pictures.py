"""Pictures and masks in memory, from the synthetic strip or from an indexed folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.datasets.records import VOID, Skipped
from edgeinspect.errors import DataError
from edgeinspect.imaging import strip
from edgeinspect.imaging.letterbox import letterbox, letterbox_mask
from edgeinspect.imaging.picture_file import Reading, read
from edgeinspect.regular_file import read_text


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of a data set as arrays, in memory or mapped."""

    images: NDArray[np.uint8]
    """uint8 (N, H, W, C): grey, or blue, green, red."""
    masks: NDArray[np.uint8]
    """uint8 (N, H, W), class ids; 0 is background, `VOID` (255) is not labelled."""
    defective: NDArray[np.bool_]
    """(N,): the label of the picture, which may be true with an empty mask."""
    names: Sequence[str]
    classes: Sequence[str]
    skipped: Sequence[Skipped] = ()
    """What was to be loaded and could not be; `select` does not carry it on."""

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices: Iterable[int]) -> Pictures:
        """A part of it, copied."""
        chosen = list(indices)
        return Pictures(
            self.images[chosen],
            self.masks[chosen],
            self.defective[chosen],
            [self.names[i] for i in chosen],
            self.classes,
        )


def load_strip(
    seed: int,
    count: int,
    *,
    height_px: int = 256,
    width_px: int = 1600,
    progress: Callable[[int], None] = lambda done: None,
) -> Pictures:
    """Render `count` pictures of one synthetic coil."""
    images = np.empty((count, height_px, width_px, 1), np.uint8)
    masks = np.empty((count, height_px, width_px), np.uint8)
    for index in range(count):
        picture = strip.render(seed, index, height_px, width_px)
        images[index, :, :, 0], masks[index] = picture.image, picture.mask
        progress(index + 1)
    return Pictures(
        images,
        masks,
        np.asarray(masks.reshape(count, -1).any(axis=1)),
        [f"strip-{seed}-{index}" for index in range(count)],
        strip.CLASS_NAMES,
    )


def load_folder(
    path: Path, split: str, classes: Sequence[str], *, height_px: int, width_px: int
) -> Pictures:
    """Load one split of a folder with `images/`, `masks/` and `index.csv`.

    Pictures of another size are letterboxed, their masks with them (nearest). A picture
    without a mask file is clean unless its `class_id` says otherwise.

    Raises:
        DataError: No index, no such split, an unreadable picture, or a mask of another size.
    """
    rows = [row for row in _read_index(path) if row.get("split") == split]
    if not rows:
        raise DataError(f"has no picture in split '{split}'", where=str(path / "index.csv"))
    images = np.empty((len(rows), height_px, width_px, 1), np.uint8)
    masks = np.zeros((len(rows), height_px, width_px), np.uint8)
    defective = np.zeros(len(rows), np.bool_)
    for index, row in enumerate(rows):
        name = row["image"]
        image = _read_grey(path / "images" / name)
        mask_path = path / "masks" / (Path(name).stem + ".png")
        mask = _read_grey(mask_path) if mask_path.exists() else np.zeros_like(image)
        if mask.shape != image.shape:
            raise DataError(f"mask is {mask.shape}, picture is {image.shape}", where=name)
        if mask.max(initial=0) > len(classes):
            raise DataError(f"mask has class {mask.max()} of {len(classes)}", where=name)
        fitted, scale, left_px, top_px = letterbox(image, height_px, width_px)
        images[index, :, :, 0] = fitted
        masks[index] = letterbox_mask(mask, scale, left_px, top_px, height_px, width_px)
        labelled = row.get("class_id", "0") != "0"
        defective[index] = labelled or bool(masks[index].any())
    return Pictures(images, masks, defective, [row["image"] for row in rows], tuple(classes))


def folder_classes(path: Path) -> tuple[str, ...]:
    """Names of the classes 1.. of an indexed folder, from its index's columns or rows."""
    rows = _read_index(path)
    if "class_id" in rows[0]:
        named = {int(row["class_id"]): row["class_name"] for row in rows if row["class_id"] != "0"}
        return tuple(named[key] for key in sorted(named))
    return tuple(
        column[: -len("_px")]
        for column in rows[0]
        if column.endswith("_px") and column not in ("height_px", "width_px", "defect_px")
    )


def _read_index(path: Path) -> list[dict[str, str]]:
    try:
        text = read_text(path / "index.csv")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"index cannot be read: {error}",
            where=str(path / "index.csv"),
            remedy="Give a folder with images/, masks/ and index.csv",
        ) from error
    if not rows or "image" not in rows[0]:
        raise DataError("has no rows with an `image` column", where=str(path / "index.csv"))
    return rows


def _read_grey(path: Path) -> NDArray[np.uint8]:
    return read(path, Reading("mono", 8, flat_end=True))[:, :, 0]


def shrink_masks(masks: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Class maps at an output stride.

    A cell belongs to the class with most pixels in it if that is at least 3/16 of the cell,
    so that a line one pixel wide survives a stride of 4. A cell of no class is void if as much
    of it is.

    Args:
        masks: uint8 (N, H, W).
        stride: Pixels per cell, each way.

    Returns:
        uint8 (N, ceil(H / stride), ceil(W / stride)).
    """
    if stride == 1:
        return masks
    count, height, width = masks.shape
    padded = np.pad(masks, ((0, 0), (0, -height % stride), (0, -width % stride)))
    h, w = padded.shape[1] // stride, padded.shape[2] // stride
    out = np.zeros((count, h, w), np.uint8)
    least = max(1, stride * stride * 3 // 16) - 1
    most = np.full((count, h, w), least, np.int32)
    for class_id in np.unique(masks):
        if class_id == VOID:  # the last: only where no class is
            cells = (padded == VOID).reshape(count, h, stride, w, stride)
            void = cells.sum(axis=(2, 4), dtype=np.int32) > least
            out[void & (out == 0)] = VOID
        elif class_id:
            cells = (padded == class_id).reshape(count, h, stride, w, stride)
            pixels = cells.sum(axis=(2, 4), dtype=np.int32)
            better = pixels > most
            out[better] = class_id
            most[better] = pixels[better]
    return out
