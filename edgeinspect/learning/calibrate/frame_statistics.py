"""Compares brightness, contrast and scores of frames with those of the model's training.

A wrong bit depth makes images 4, 16 or 64 times darker. FP32 and INT8 then agree on all of them,
the ranges fit dark images, and the metrics look perfect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, ModelError
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelManifest, read_manifest

MEASURES = ("brightness", "contrast", "score")
Values = NDArray[np.float64]
"""(N, 3): the measures of N frames."""
_TENTHS = 10
_DRIFT_LIMIT = 0.25
_MIN_DARKENING_FACTOR = 3.0
"""Frames darker or flatter than the darkest tenth of the reference by this factor are not due to
another light: two bits of depth are a factor of four."""
_MIN_BRIGHTEST_LEVEL = 32.0
"""Frames whose brightest pixels are below this of 255 are not from a working camera."""
_REMEDY = (
    "Check the frames: 16-bit images may have been read at a wrong depth; declare `bits` in "
    "their reading.yaml. If they are correct, train on such images"
)


def reference_statistics(parent: ModelSpec) -> tuple[dict[str, list[float]], int, str] | None:
    """Return the deciles of a model's training frames, their number, and the source.

    From its own manifest; else from that of a version calibrated from it. None if neither has
    them.
    """
    folder = parent.path.parent
    own = _read_manifest_or_none(folder)
    training = own.training if own is not None else None
    found = _parse_statistics(_get_key(training, "statistics"), "pictures")
    if found is not None:
        return *found, "the training"
    for path in sorted(folder.parent.glob(f"*/{MANIFEST_FILE}")):
        other = _read_manifest_or_none(path.parent)
        if other is None or other.calibration is None:
            continue
        if _get_key(_get_key(other.training, "parent"), "sha256") != parent.id.sha256:
            continue
        table = _get_key(_get_key(other.accuracy, "calibration"), "statistics")
        frames = _get_key(_get_key(other.accuracy, "calibration"), "frames")
        if isinstance(table, dict) and isinstance(frames, int):
            found = _parse_statistics({**table, "pictures": frames}, "pictures")
            if found is not None:
                return *found, f"the calibration of version {other.version}"
    return None


def check_frame_statistics(
    values: Values, reference: Mapping[str, Sequence[float]] | None, where: str
) -> None:
    """Check that frames are not far darker or flatter than the training frames.

    Args:
        values: (N, 3) as measured by `sampling.measure_frames`.
        reference: Deciles by measure, if known.
        where: The frames, for error messages.

    Raises:
        DataError: They are far darker or flatter.
    """
    if not len(values):
        return
    brightness, contrast = np.median(values[:, 0]), np.median(values[:, 1])
    for name, median in (("brightness", brightness), ("contrast", contrast)):
        edges = (reference or {}).get(name)
        if edges and median * _MIN_DARKENING_FACTOR < edges[0]:
            raise DataError(
                f"frames differ from the training frames: their {name} is {median:.3g}, while "
                f"nine tenths of the training frames are above {edges[0]:.3g}",
                where=where,
                remedy=_REMEDY,
            )
    brightest = float(np.max(values[:, 0] + 3 * values[:, 1]))
    if reference is None and brightest < _MIN_BRIGHTEST_LEVEL:
        raise DataError(
            f"frames are nearly black: their brightest pixels are about {brightest:.3g} of 255",
            where=where,
            remedy=_REMEDY,
        )


def deciles(values: Values) -> dict[str, list[float]]:
    """Return the nine deciles of each measure, as stored in manifests."""
    levels = np.linspace(0, 1, _TENTHS + 1)[1:-1]
    return {
        name: [round(float(each), 5) for each in np.quantile(values[:, column], levels)]
        for column, name in enumerate(MEASURES)
    }


def describe_drift(
    values: Values, reference: Mapping[str, Sequence[float]], size: int
) -> list[str]:
    """Describe the measures in which a sample differs from a reference population.

    A population stability index above 0.25 (plus its expected value by chance for these
    numbers of frames) counts as a different population.

    Args:
        values: (N, 3) of the sample.
        reference: Deciles by measure; missing measures are ignored.
        size: Number of frames of the reference.
    """
    limit = _DRIFT_LIMIT + (_TENTHS - 1) * (1 / max(1, len(values)) + 1 / max(1, size))
    words = []
    for column, name in enumerate(MEASURES):
        edges = reference.get(name)
        if edges is None or len(edges) != _TENTHS - 1:
            continue
        index = population_stability_index(values[:, column], edges)
        if index > limit:
            words.append(
                f"{name}: the sample's median is {np.median(values[:, column]):.3g}, the "
                f"reference's {edges[_TENTHS // 2 - 1]:.3g} (stability index {index:.2f}, "
                f"limit {limit:.2f})"
            )
    return words


def population_stability_index(values: Values, edges: Sequence[float]) -> float:
    """Return the population stability index of values against nine deciles."""
    # Equal deciles (a gate that returns 0 for half of all frames) leave tenths empty: a value
    # on an edge is distributed over the tenths that meet there.
    low = np.searchsorted(edges, values, "left")
    high = np.searchsorted(edges, values, "right")
    counts = np.zeros(_TENTHS)
    for first, last in zip(low, high, strict=True):
        counts[first : last + 1] += 1 / (last - first + 1)
    share = (counts + 0.5) / (len(values) + 0.5 * _TENTHS)
    return float(np.sum((share - 1 / _TENTHS) * np.log(share * _TENTHS)))


def _read_manifest_or_none(folder: Path) -> ModelManifest | None:
    try:
        return read_manifest(folder / MANIFEST_FILE)
    except ModelError:
        return None


def _get_key(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, dict) else None


def _parse_statistics(table: Any, count: str) -> tuple[dict[str, list[float]], int] | None:
    if not isinstance(table, dict) or not isinstance(table.get(count), int):
        return None
    return {key: table[key] for key in MEASURES if key in table}, table[count]
