"""Images and masks as arrays, and those of the synthetic strip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import synthetic_strip
from edgeinspect.learning.datasets.dataset import VOID, SkippedImage


@dataclass(frozen=True, slots=True)
class ImageArrays:
    """Images of a data set as arrays, in memory or memory-mapped."""

    images: NDArray[np.uint8]
    """uint8 (N, H, W, C): grey or BGR."""
    masks: NDArray[np.uint8]
    """uint8 (N, H, W), class ids; 0 is background, `VOID` (255) is unlabelled."""
    defective: NDArray[np.bool_]
    """(N,): the label of the image, which may be true with an empty mask."""
    names: Sequence[str]
    classes: Sequence[str]
    kinds: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """(N,): class id of an image's only kind of defect; 0 if it is good, or its kind unknown."""
    skipped: Sequence[SkippedImage] = ()
    """Images that could not be loaded; `select` does not copy them."""

    def __post_init__(self) -> None:
        if len(self.kinds) != len(self.images):
            object.__setattr__(self, "kinds", np.zeros(len(self.images), np.uint8))

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices: Iterable[int]) -> ImageArrays:
        """Return a copy of some images."""
        chosen = list(indices)
        return ImageArrays(
            self.images[chosen],
            self.masks[chosen],
            self.defective[chosen],
            [self.names[i] for i in chosen],
            self.classes,
            self.kinds[chosen],
        )


def load_strip(
    seed: int,
    count: int,
    *,
    height_px: int = 256,
    width_px: int = 1600,
    progress: Callable[[int], None] = lambda done: None,
) -> ImageArrays:
    """Render `count` images of one synthetic coil."""
    images = np.empty((count, height_px, width_px, 1), np.uint8)
    masks = np.empty((count, height_px, width_px), np.uint8)
    for index in range(count):
        image = synthetic_strip.render_strip(seed, index, height_px, width_px)
        images[index, :, :, 0], masks[index] = image.image, image.mask
        progress(index + 1)
    return ImageArrays(
        images,
        masks,
        np.asarray(masks.reshape(count, -1).any(axis=1)),
        [f"strip-{seed}-{index}" for index in range(count)],
        synthetic_strip.CLASS_NAMES,
    )


def downsample_masks(masks: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Return class maps at an output stride.

    A cell gets the class with the most pixels in it, if these are at least 3/16 of the cell, so
    that a line one pixel wide survives a stride of 4. A cell without a class is void if at
    least 3/16 of it is void.

    Args:
        masks: uint8 (N, H, W).
        stride: Pixels per cell in both directions.

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
        if class_id == VOID:  # the highest id, so only where no class is
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
