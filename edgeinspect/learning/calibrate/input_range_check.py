"""Whether frames can be those that a model is for: INT8 and FP32 agree on black ones too.

A wrong depth makes pictures 4, 16 or 64 times darker. Both graphs then say the same of all of
them, the ranges fit darkness, and the figures look perfect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.domain.model import ModelSpec
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate import sampling
from edgeinspect.storage.model_store import MANIFEST, Manifest, read_manifest

_TIMES = 3.0
"""So many times darker or flatter than the darkest tenth of the reference is no other light:
two bits of depth are a factor of four."""
_FAINT_LEVELS = 32.0
"""Frames whose pixels hardly reach this of 255 are no pictures of a camera that is set up."""
_REMEDY = (
    "Look at the frames: pictures of 16 bits may have been read at another depth; say `bits` in "
    "their reading.yaml. If they are right, train on such pictures"
)


def statistics(parent: ModelSpec) -> tuple[dict[str, list[float]], int, str] | None:
    """Deciles of the frames that a model learnt from, their number, and where it stands.

    From its own manifest; else from that of a version that was calibrated from it. None if
    neither tells.
    """
    folder = parent.path.parent
    own = _manifest(folder)
    training = own.training if own is not None else None
    found = _table(_get(training, "statistics"), "pictures")
    if found is not None:
        return *found, "the training"
    for path in sorted(folder.parent.glob(f"*/{MANIFEST}")):
        other = _manifest(path.parent)
        if other is None or other.calibration is None:
            continue
        if _get(_get(other.training, "parent"), "sha256") != parent.id.sha256:
            continue
        table = _get(_get(other.accuracy, "calibration"), "statistics")
        frames = _get(_get(other.accuracy, "calibration"), "frames")
        if isinstance(table, dict) and isinstance(frames, int):
            found = _table({**table, "pictures": frames}, "pictures")
            if found is not None:
                return *found, f"the calibration of version {other.version}"
    return None


def check_likeness(
    values: sampling.Values, reference: Mapping[str, Sequence[float]] | None, where: str
) -> None:
    """Refuse frames that are far darker or flatter than those the model learnt from.

    Args:
        values: (N, 3) as `sample.scan` measures frames.
        reference: Deciles by measure, if they are known.
        where: The frames, for errors.

    Raises:
        DataError: They are so.
    """
    if not len(values):
        return
    brightness, contrast = np.median(values[:, 0]), np.median(values[:, 1])
    for name, median in (("brightness", brightness), ("contrast", contrast)):
        edges = (reference or {}).get(name)
        if edges and median * _TIMES < edges[0]:
            raise DataError(
                f"these frames do not look like those that the model learnt from: their {name} "
                f"is {median:.3g}, where nine tenths of those have more than {edges[0]:.3g}",
                where=where,
                remedy=_REMEDY,
            )
    brightest = float(np.max(values[:, 0] + 3 * values[:, 1]))
    if reference is None and brightest < _FAINT_LEVELS:
        raise DataError(
            f"these frames are nearly black: their pixels hardly reach {brightest:.3g} of 255",
            where=where,
            remedy=_REMEDY,
        )


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder / MANIFEST)
    except ModelError:
        return None


def _get(table: Any, key: str) -> Any:
    return table.get(key) if isinstance(table, dict) else None


def _table(said: Any, count: str) -> tuple[dict[str, list[float]], int] | None:
    if not isinstance(said, dict) or not isinstance(said.get(count), int):
        return None
    return {key: said[key] for key in sampling.MEASURES if key in said}, said[count]
