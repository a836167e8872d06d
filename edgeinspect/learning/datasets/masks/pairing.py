"""Builds a data set from images paired with mask files.

All masks are read once: the encoding is inferred over the whole set, and an image is defective if
its mask has a defect pixel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import is_defect_class, is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, Sample, SkippedImage
from edgeinspect.learning.datasets.files import natural_key, unique_names
from edgeinspect.learning.datasets.masks.content import (
    MaskContents,
    has_several_ids,
    read_mask_contents,
)
from edgeinspect.learning.datasets.masks.encoding import check_binary_masks, infer_encoding
from edgeinspect.learning.datasets.masks.inverted import note_inverted
from edgeinspect.learning.datasets.masks.label_maps import label_map_in_order, read_label_map
from edgeinspect.learning.datasets.masks.overlaps import note_overlaps
from edgeinspect.learning.datasets.masks.pair_folders import (
    ImageMaskPair,
    folders_are_groups,
    with_sorted_folders,
    without_masks_of_folder,
)
from edgeinspect.learning.datasets.masks.sources import (
    BINARY_ENCODING,
    MAX_CLASSES,
    MaskEncoding,
    MaskFile,
    MaskPerClass,
)
from edgeinspect.learning.datasets.name_matching import (
    MIN_EMPTY_LABEL_FACTOR,
    are_few,
)
from edgeinspect.learning.datasets.vocabulary import is_mask_folder, split_words, word_set

_MASK_WORDS = frozenset(("lab", "lbl", "msk", "m", "bin", "binary", "bw"))
_VIEW_WORDS = word_set("color colour colors colours rgb instance instances semantic panoptic")
_MIN_UNIQUE_WORDS = 16
"""This many words that occur in one mask file name each are object numbers, not classes."""
_MAX_NAMES = 3


def dataset_from_pairs(
    root: Path, layout: str, pairs: Sequence[ImageMaskPair], hints: LayoutHints
) -> Dataset:
    """Return the data set of paired files.

    Which folders are classes and which are groups is decided by `pair_folders.py`.

    Raises:
        DataError: Mask values cannot be classes.
    """
    files = [path for pair in pairs for _name, path in pair.masks]
    label_map = (
        label_map_in_order(hints.classes, "the classes given")
        if hints.classes
        else read_label_map(root)
    )
    contents = read_mask_contents(files, colors=label_map is not None and label_map.uses_colors)
    whole = pairs
    pairs, notes = with_sorted_folders(whole, contents, root, layout, hints)
    parts = without_masks_of_folder(pairs, whole, hints) if notes else {}
    folders = {pair.folder for pair in pairs} - {""}
    grouped = folders_are_groups(pairs)
    named = label_map.names if label_map else ()
    by_class = sorted({name for pair in pairs for name, _path in pair.masks if name})
    if len(by_class) == 1 and (
        _is_mask_word(by_class[0])
        or has_several_ids(set().union(*(v.values for v in contents.values())))
    ):
        pairs = [
            replace(pair, masks=tuple(("", path) for _n, path in pair.masks)) for pair in pairs
        ]
        by_class = []  # `NAME_lab.png` for all: a word for masks, not a class
    _check_views(by_class, root)
    pairs, by_class = _resolve_mask_classes(pairs, by_class, root)
    encoding = BINARY_ENCODING
    if by_class:
        check_binary_masks(contents, root)
        classes = named if set(named) >= set(by_class) else tuple(by_class)
    else:
        inferred = infer_encoding(contents, label_map, root)
        encoding, classes = inferred.encoding, inferred.classes
        notes += [inferred.note] if inferred.note else []
        if inferred.is_binary and folders and not grouped:
            classes = tuple(
                sorted(name for name in folders if not is_good_class(name, hints.good_classes))
            )
            by_class = list(classes)
    background = {value for value, class_id in encoding.ids.items() if value and not class_id}
    notes += note_inverted(
        {p: one for p, one in contents.items() if one.majority_value not in background}, root
    )
    own = [pair for pair in pairs if grouped or not pair.folder]  # whose folder is no class
    several = [pair.masks for pair in pairs if len({name for name, _path in pair.masks}) > 1]
    notes += note_overlaps([[path for _n, path in masks] for masks in several], contents, root)
    bare = _unlabelled_pairs(pairs, contents, grouped, root)
    unlabelled = dict.fromkeys(bare, "has no mask file, while good images have an empty one")
    unlabelled |= parts | _pairs_without_class(own, contents) | _named_as_defective(own, contents)
    _check_few(unlabelled, len(pairs), root)
    skipped = [
        SkippedImage(str(pair.path.relative_to(root)), why) for pair, why in unlabelled.items()
    ]
    names = unique_names(root, [pair.path for pair in pairs])
    pairs = [pair for pair in pairs if pair not in unlabelled]
    notes += _note_missing_masks([pair for pair in pairs if grouped or not pair.folder], root)
    reader = _PairReader(classes, encoding, contents, grouped, bool(by_class), hints.good_classes)
    samples = [reader.make_sample(pair, names[pair.path]) for pair in pairs]
    samples.sort(key=lambda sample: natural_key(Path(sample.name)))
    data = Dataset(root, layout, classes, tuple(samples), has_masks=True, notes=tuple(notes))
    return data.with_skipped(*skipped)


@dataclass(frozen=True, slots=True)
class _PairReader:
    """Makes samples of pairs once the encoding of their masks is known."""

    classes: tuple[str, ...]
    encoding: MaskEncoding
    contents: MaskContents
    is_grouped: bool
    """Folders are groups, not classes."""
    by_class: bool
    """Each mask file has one class, named by the file or its folder."""
    good_classes: tuple[str, ...]

    def make_sample(self, pair: ImageMaskPair, name: str) -> Sample:
        folder = "" if self.is_grouped else pair.folder
        is_bad_folder = bool(folder) and not is_good_class(folder, self.good_classes)
        is_broken = any(bool(self.contents[path].problem) for _name, path in pair.masks)
        mask, ids = self._read_masks(pair, folder)
        only_class = self.classes[min(ids) - 1] if len(ids) == 1 < len(self.classes) else None
        return Sample(
            name,
            pair.path,
            bool(ids) or is_bad_folder or is_broken,
            folder or only_class,
            pair.part_folder or (pair.folder if self.is_grouped else "") or name,
            pair.split,
            mask,
            tuple(sorted(ids)),
        )

    def _read_masks(
        self, pair: ImageMaskPair, folder: str
    ) -> tuple[MaskFile | MaskPerClass | None, set[int]]:
        """Return the mask of an image, and the ids of the classes in it."""
        if self.by_class:
            return self._read_class_masks(pair, folder)
        if not pair.masks:
            return None, set()
        encoding, path = self.encoding, pair.masks[0][1]
        content = self.contents[path]
        if encoding.is_soft and content.reaches_threshold:
            return MaskFile(path, encoding), {1}
        ids = {encoding.ids.get(value, 0) for value in content.values} - {0}
        return MaskFile(path, encoding), ids

    def _read_class_masks(
        self, pair: ImageMaskPair, folder: str
    ) -> tuple[MaskFile | MaskPerClass | None, set[int]]:
        void = self.encoding.void
        ids: set[int] = set()
        files: list[tuple[int, Path]] = []
        empty: MaskFile | None = None
        for word, path in pair.masks:
            content = self.contents[path]
            is_drawn = content.has_set_pixels and not content.values <= void
            class_name = word or folder
            if class_name in self.classes:
                files.append((self.classes.index(class_name) + 1, path))
                if is_drawn:
                    ids.add(files[-1][0])
            elif is_drawn and not class_name:
                raise DataError(
                    f"does not tell its class, as other masks do ({', '.join(self.classes[:3])})",
                    where=str(path),
                    remedy="Name it NAME_<class>.png, or move the masks of single classes away",
                )
            elif is_drawn:
                raise DataError(
                    "has defect pixels, but its folder is a good class",
                    where=str(path),
                    remedy="Move its image into the folder of a defect, or remove the mask",
                )
            else:  # of a good image: read too, so that its size is checked
                empty = MaskFile(path, MaskEncoding({}, is_soft=not void, void=void))
        return (MaskPerClass(tuple(sorted(files)), void) if files else empty), ids


def _unlabelled_pairs(
    pairs: Sequence[ImageMaskPair], contents: MaskContents, grouped: bool, root: Path
) -> list[ImageMaskPair]:
    """Return images without a mask file in a set that has empty masks for good images.

    Raises:
        DataError: They are more than a few.
    """
    bare = [pair for pair in pairs if not pair.masks and (grouped or not pair.folder)]
    empty = [
        pair for pair in pairs if pair.masks and not any(contents[p].values for _n, p in pair.masks)
    ]
    if not bare or len(empty) < MIN_EMPTY_LABEL_FACTOR * len(bare):
        return []
    if not are_few(len(bare), len(pairs)):
        some = ", ".join(str(pair.path.relative_to(root)) for pair in bare[:_MAX_NAMES])
        raise DataError(
            f"{len(bare)} of {len(pairs)} images have no mask file ({some}, …), while "
            f"{len(empty)} others have an empty one",
            where=str(root),
            remedy="Add an empty mask for each good image, or remove unlabelled images",
        )
    return bare


def _check_few(unlabelled: Mapping[ImageMaskPair, str], total: int, root: Path) -> None:
    if not are_few(len(unlabelled), total):
        pair, why = list(unlabelled.items())[-1]
        raise DataError(
            f"{len(unlabelled)} of {total} images are not labelled, such as "
            f"{pair.path.relative_to(root)}: {why}",
            where=str(root),
            remedy="Add the masks that are missing, or remove unlabelled images",
        )


def _pairs_without_class(
    pairs: Sequence[ImageMaskPair], contents: MaskContents
) -> dict[ImageMaskPair, str]:
    """Return images that lack the file of one class, in a set with a file per class, and why.

    A set writes the files of a class that is not in an image too if more than a few of them are
    empty and beside the file of another class. Images without any file are not questioned here.
    """
    names = {pair: {n for n, _path in pair.masks if not is_good_class(n)} for pair in pairs}
    several = [pair for pair in pairs if len(names[pair]) > 1]
    reasons: dict[ImageMaskPair, str] = {}
    for word in sorted({name for pair in pairs for name in names[pair]} - {""}):
        having = [pair for pair in pairs if word in names[pair]]
        empty = [
            pair
            for pair in several
            if word in names[pair]
            and not any(contents[path].values for name, path in pair.masks if name == word)
        ]
        if are_few(len(empty), len(having)):
            continue
        why = f"has no mask file of {word}, while images without {word} have an empty one"
        for pair in pairs:
            if names[pair] - {word, ""} and not names[pair] & {word, ""}:
                reasons.setdefault(pair, why)
    return reasons


def _named_as_defective(
    pairs: Sequence[ImageMaskPair], contents: MaskContents
) -> dict[ImageMaskPair, str]:
    """Return images without a mask whose name says that they are defective, and why.

    `ng_4.png`, in a set that names its images `ok_` and `ng_`: no image named as good has a
    defect in its mask, and one named as defective has.
    """
    drawn = {
        pair for pair in pairs if any(contents[path].has_set_pixels for _n, path in pair.masks)
    }
    words = {pair: re.split(r"\d", pair.path.stem)[0] for pair in pairs}
    good = [pair for pair in pairs if is_good_class(words[pair])]
    bad = [pair for pair in pairs if is_defect_class(words[pair])]
    if not good or not drawn.isdisjoint(good) or drawn.isdisjoint(bad):
        return {}
    why = "has no mask, and its name says that it is defective"
    return {pair: why for pair in bad if not pair.masks}


def _resolve_mask_classes(
    pairs: Sequence[ImageMaskPair], by_class: list[str], root: Path
) -> tuple[Sequence[ImageMaskPair], list[str]]:
    """Return the pairs and the classes of files with one class each.

    `NAME_mask_0.png` and `NAME_mask_1.png` are masks of two objects of one class.

    Raises:
        DataError: The class names are numbers, or differ from file to file.
    """
    bare = {name: re.sub(r"[\d_\-. ]+$", "", name) for name in by_class}
    if len(by_class) > 1 and all(rest and _is_mask_word(rest) for rest in bare.values()):
        one = [
            replace(pair, masks=tuple(("defect", path) for _n, path in pair.masks))
            for pair in pairs
        ]
        return one, ["defect"]
    count = Counter(name for pair in pairs for name, _path in pair.masks if name)
    once = sum(number == 1 for number in count.values())
    if (
        len(by_class) > MAX_CLASSES
        or (once >= _MIN_UNIQUE_WORDS and 2 * once > len(by_class))
        or (by_class and not any(bare.values()))
    ):
        some = ", ".join(by_class[:_MAX_NAMES])
        raise DataError(
            f"mask file names have {len(by_class)} words or numbers ({some}, …), which cannot "
            "be classes",
            where=str(root),
            remedy="Name a file with one class NAME_<class>.png or <class>/NAME.png",
        )
    return pairs, by_class


def _check_views(by_class: Sequence[str], root: Path) -> None:
    """Check that words in the names of masks are not views of one labelling, as of Cityscapes.

    Raises:
        DataError: They are: `a_labelIds.png`, `a_color.png`, `a_instanceIds.png`.
    """
    views = [name for name in by_class if set(split_words(name)) & _VIEW_WORDS]
    plain = {name: re.sub("fine|coarse", "", name, flags=re.IGNORECASE) for name in by_class}
    others = [name for name in by_class if name not in views and not _is_mask_word(plain[name])]
    if len(by_class) > 1 and views and not others:
        raise DataError(
            f"images have several masks, named {', '.join(by_class[:_MAX_NAMES])}: these are no "
            "classes",
            where=str(root),
            remedy="Keep one mask of each image, best that of class ids, and move the others away",
        )


def _is_mask_word(name: str) -> bool:
    """Return whether a name is a word for masks, not a class: `gt_mask`, `labelIds`, `msk`."""
    return is_mask_folder(name) or set(split_words(name)) <= _MASK_WORDS


def _note_missing_masks(pairs: Sequence[ImageMaskPair], root: Path) -> list[str]:
    bare = [pair.path for pair in pairs if not pair.masks]
    if not bare:
        return []
    some = ", ".join(str(path.relative_to(root)) for path in bare[:_MAX_NAMES])
    more = ", …" if len(bare) > _MAX_NAMES else ""
    count = f"{len(bare)} of {len(pairs)}"
    return [f"{count} images have no mask file: taken as good ({some}{more})"]
