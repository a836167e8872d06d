"""The example set: labelled images of washers, good ones and three classes of defects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2

from edgeinspect.imaging import WASHER_CLASSES, render_washer
from edgeinspect.learning.datasets.export import new_dataset_folder, write_class_mask

_CLASS_SHARE = 0.15
"""Share of the images that have a defect of one class; more than half are good."""


def write_example_set(
    out: Path, count: int, seed: int, progress: Callable[[int], None] = lambda done: None
) -> dict[str, int]:
    """Write images and masks, one class per mask folder, and `classes.txt`.

    Args:
        out: A new or empty folder.
        count: Number of images; at least one of each class is defective.
        seed: The batch of parts. Different seeds share no image.
        progress: Called with the number of images done.

    Returns:
        The number of images by class, `good` included.

    Raises:
        StorageError: The folder is not empty, or cannot be written.
    """
    per_class = max(1, round(count * _CLASS_SHARE))
    counts = {"good": max(0, count - per_class * len(WASHER_CLASSES))}
    counts |= dict.fromkeys(WASHER_CLASSES, per_class)
    names = [(kind, number) for kind, total in counts.items() for number in range(1, total + 1)]
    with new_dataset_folder(out, WASHER_CLASSES) as folder:
        (folder / "images").mkdir()
        for index, (kind, number) in enumerate(names):
            washer = render_washer(seed, index, None if kind == "good" else kind)
            name = f"{kind}-{number:03}.png"
            encoded = cv2.imencode(".png", washer.image)[1]
            (folder / "images" / name).write_bytes(encoded.tobytes())
            if kind != "good":
                write_class_mask(folder, kind, name, washer.mask > 0)
            progress(index + 1)
    return counts
