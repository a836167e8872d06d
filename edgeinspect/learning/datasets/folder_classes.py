"""Checks of a set that was read by its folders: are they classes, and does a table agree?"""

from __future__ import annotations

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.folder_names import (
    is_code,
    is_origin_folder,
    is_set_aside_folder,
    says_only_defective,
)


def check_class_names(data: Dataset) -> None:
    """Check that no folder of a day, a camera or old images was read as a class of defects.

    Raises:
        DataError: There is one: `2024-01-03/`, `cam2/`, `backup/`.
    """
    names = {name.partition("/")[0] for name in data.classes}
    is_whole = any(map(says_only_defective, names)) and not all(
        sample.is_defective for sample in data.samples
    )
    for name in sorted(names):
        if is_origin_folder(name) or (is_whole and is_code(name)):
            meaning = "a day, a camera, a batch or a part"
        elif is_set_aside_folder(name) and len(names) > 1:
            meaning = "images that were put away"
        else:
            continue
        raise DataError(
            f"has a folder '{name}': its images would be defects of this class, but its name may "
            f"mean {meaning}",
            where=str(data.root),
            remedy="Sort its images into the folders of their classes, or move it away. "
            f"--layout {data.layout} reads it as a class of defects",
        )
