"""What a run and a manifest record of the data: a digest of its labels, and its brightness."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets import Dataset, ImageArrays


def dataset_digest(data: Dataset) -> str:
    """Hash names, labels and splits, not pixels, which may be many gigabytes."""
    digest = hashlib.sha256()
    for sample in data.samples:
        line = f"{sample.name}\0{int(sample.is_defective)}\0{sample.split}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def brightness_statistics(images: ImageArrays) -> dict[str, Any]:
    """Return deciles of brightness and contrast, which a calibration checks its frames against."""
    values = np.array([(image.mean(), image.std()) for image in images.images])
    deciles: NDArray[Any] = np.quantile(values, np.linspace(0.1, 0.9, 9), axis=0)
    return {
        "pictures": len(values),
        **{
            name: [round(float(value), 5) for value in deciles[:, column]]
            for column, name in enumerate(("brightness", "contrast"))
        },
    }
