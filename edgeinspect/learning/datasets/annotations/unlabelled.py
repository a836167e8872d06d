"""Images that a set has without saying what is on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import SkippedImage
from edgeinspect.learning.datasets.name_matching import are_few


def skip_unlabelled(root: Path, reasons: Mapping[Path, str], total: int) -> list[SkippedImage]:
    """Return images that a set has without saying what is on them, as skipped.

    Args:
        root: Folder of the set.
        reasons: Each such image, and why it counts as not labelled.
        total: Number of images of the set, with these.

    Raises:
        DataError: They are more than a few, or all.
    """
    if reasons and not (are_few(len(reasons), total) and len(reasons) < total):
        some, reason = next(iter(reasons.items()))
        raise DataError(
            f"{len(reasons)} of {total} images are not labelled, such as {some.relative_to(root)}: "
            f"{reason}",
            where=str(root),
            remedy="Label them, or remove unlabelled images",
        )
    return [SkippedImage(str(path.relative_to(root)), why) for path, why in reasons.items()]
