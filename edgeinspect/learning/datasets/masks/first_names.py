"""Decides whether the first name of a list of classes is the background."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_defect_class
from edgeinspect.learning.datasets.masks.label_maps import LabelMap, label_map_in_order
from edgeinspect.learning.datasets.masks.sources import UNLABELLED
from edgeinspect.learning.datasets.vocabulary import split_words, word_set

_KIND_WORDS = word_set(
    """
    defect class blister blob blowhole break bubble burr chip contamination corrosion crazing cut
    deformation delamination dent dirt fiber fold fray gap glue gouge hole inclusion misprint
    missing open patches pit pits pitted pitting poke pore pores porosity rolled rust scab short
    shrinkage spalling spatter spot spots spur squeeze stain stains stringer thread tear uneven
    warp wear wrinkle kratzer riss delle pore einschluss lunker rayure fissure bosse graffio
    crepa ammaccatura grieta abolladura
    """
)
"""Words for kinds of defects, in the first line of a list of classes."""


def with_background_line(label_map: LabelMap, values: Iterable[int]) -> LabelMap:
    """Return the label map of a list whose first line may be the background.

    It may be if the list has one name more than the highest id in the masks: either the masks have
    nothing of the last class, or the names start at 0. A word for a defect settles it.

    Args:
        label_map: Of any file.
        values: All values in the masks.

    Raises:
        DataError: It cannot be decided.
    """
    names, ids = label_map.names, set(values) - {0, UNLABELLED}
    if not label_map.is_bare_list or not ids or max(ids) >= len(names):
        return label_map
    source = Path(label_map.source).name
    if names[0] == "0":
        return replace(
            label_map_in_order(names[1:], label_map.source),
            void=label_map.void,
            note=f"'0', the first name in {source}, is the background",
        )
    if max(ids) == len(names) - 1 and not _is_defect(names[0]):
        raise DataError(
            f"has {len(names)} names, and the masks have values up to {max(ids)}: is "
            f"{names[0][:40]!r} the background, or is no {names[-1][:40]!r} in the masks?",
            where=label_map.source,
            remedy="Write background in its first line, instead of that name or before it; or "
            f"write each line with its value: 1 {names[0][:40]}",
        )
    return label_map


def _is_defect(name: str) -> bool:
    return is_defect_class(name) or not _KIND_WORDS.isdisjoint(split_words(name))
