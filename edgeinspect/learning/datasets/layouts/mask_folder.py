"""Images in one folder, masks in another beside it: `images/` and `masks/`.

Also `labels/`, `annotations/`, `ground_truth/` …; also below `train/`, `val/`, `test/`, with those
below `images/` and `masks/` (also MMSegmentation's `img_dir/train/`, `ann_dir/train/`, and
Cityscapes' `leftImg8bit/`, `gtFine/`), or images with a folder `Label/` beside them (DAGM). A mask
belongs to the image of the same stem (`NAME.png`, `NAME_mask.png`, `mask_NAME.png`); one file
per class is `NAME_<class>.png` or `<class>/NAME.png`. Masks are binary, class ids, palette or
colours (`masks/encoding.py`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name, read_mask_values
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.class_names import is_good_class
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import contains_images, files_in, images_below, subfolders
from edgeinspect.learning.datasets.image_sets import with_listed_splits
from edgeinspect.learning.datasets.masks.pair_folders import (
    ImageMaskPair,
    class_of_folder,
    folders_are_groups,
)
from edgeinspect.learning.datasets.masks.pairing import dataset_from_pairs
from edgeinspect.learning.datasets.masks.sources import set_pixels
from edgeinspect.learning.datasets.name_matching import (
    MASK_WORDS,
    are_few,
    bare_image_stem,
    class_first_remedy,
    mask_stems,
    normalize_name,
    split_suffix,
)
from edgeinspect.learning.datasets.tables import read_table_text
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    SPLIT_NAMES,
    find_split_name,
    is_annotation_folder,
    is_mask_folder,
    is_visualization_folder,
    split_words,
)

NEEDS = "images/ and masks/ (or labels/, annotations/, ground_truth/) with files of the same stem"
RANK = 40
_MAX_NAMES = 3
_TARGET_NAMES = ("target", "targets")
"""Folders of masks beside one of images only: `input/`, `target/`. Else they may be a class."""
_NUMBERED_MASK = re.compile(rf"[\d_\-. ]*\d[_\-. ]?{MASK_WORDS}", re.IGNORECASE)
"""What follows `a` in `a_2_mask`: the mask of image `a_2`, not of `a`."""


def recognise(path: Path) -> bool:
    """Return whether a folder has at least one pair of image and mask folders."""
    try:
        return path.is_dir() and bool(_folder_pairs(path))
    except DataError:  # two folders of one kind: reported by `read`
        return True


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples; an image without a mask is taken as good, and a note says so.

    Raises:
        DataError: More than a few masks have no image, an image has two masks, or the masks'
            values cannot be classes.
    """
    pairs: list[ImageMaskPair] = []
    orphans: list[Path] = []
    skipped: list[SkippedImage] = []
    count = 0
    for images, masks, direct in _folder_pairs(path):
        more, unused, seconds, seen = _pair_masks(path, images, masks, direct)
        pairs += more
        orphans += unused
        skipped += _skip_second_masks(path, seconds)
        count += seen
    if not any(pair.masks for pair in pairs):
        raise DataError(
            "no mask has the stem of an image",
            where=str(path),
            remedy=class_first_remedy(orphans, (pair.path for pair in pairs))
            or "Name them alike: images/a.jpg and masks/a.png",
        )
    some = ", ".join(str(mask.relative_to(path)) for mask in orphans[:_MAX_NAMES])
    some += ", …" if orphans[_MAX_NAMES:] else ""
    if not are_few(len(orphans), count):
        raise DataError(
            f"{len(orphans)} of {count} masks have no image: {some}",
            where=str(path),
            remedy=class_first_remedy(orphans, (pair.path for pair in pairs))
            or "Name masks after their images, or add the missing images",
        )
    unlabelled = {
        **_without_masks_of_folder(path, pairs, hints),
        **_unlabelled_by_table(path, pairs),
    }
    skipped += skip_unlabelled(path, unlabelled, len(pairs))
    pairs = [pair for pair in pairs if pair.path not in unlabelled]
    data = dataset_from_pairs(path, "mask_folder", pairs, hints)
    data = with_listed_splits(data, is_layout_given=hints.layout is not None)
    skipped += [
        SkippedImage(str(mask.relative_to(path)), "is a mask without an image") for mask in orphans
    ]
    data = data.with_skipped(*skipped)
    return (
        data.with_notes(f"{number_of(len(orphans), 'mask has', 'masks have')} no image: {some}")
        if orphans
        else data
    )


def _folder_pairs(path: Path) -> list[tuple[Path, Path, bool]]:
    """Return image folders with their mask folders, in the set's folder or its splits'.

    The third item is True if the images are beside the mask folder, as in DAGM.

    Raises:
        DataError: Two folders could be the images of a split, or its masks.
    """
    bases = [path, *(f for f in subfolders(path) if f.name.lower() in SPLIT_NAMES)]
    pairs = []
    for base in bases:
        kinds: dict[str, dict[str, list[Path]]] = {"image": {}, "mask": {}}
        for folder in subfolders(base):
            kind, which = _folder_kind(folder.name)
            if kind and contains_images(folder):
                kinds[kind].setdefault(which, []).append(folder)
        direct = not kinds["image"] and _holds_images(base, kinds["mask"].get("", []))
        if direct:
            kinds["image"][""] = [base]
        for which, images in kinds["image"].items():
            if masks := kinds["mask"].get(which):
                pairs.append(
                    (_single_folder(images, "image"), _single_folder(masks, "mask"), direct)
                )
    return pairs


def _holds_images(base: Path, masks: list[Path]) -> bool:
    """Return whether images beside mask folders are those of the masks.

    If there are other folders of images, half of the masks must have an image here: a single one,
    such as a preview, says nothing.
    """
    stems = {normalize_name(file.stem) for file in files_in(base) if is_image_name(file.name)}
    if not stems or not masks:
        return False
    if not any(
        contains_images(folder)
        for folder in subfolders(base)
        if not is_annotation_folder(folder.name)
    ):
        return True
    files = [file for folder in masks for file in images_below(folder)]
    return 2 * sum(not stems.isdisjoint(mask_stems(file)) for file in files) >= len(files)


def _single_folder(folders: list[Path], kind: str) -> Path:
    if len(folders) > 1:
        raise DataError(
            f"has two {kind} folders: {folders[0].name}/ and {folders[1].name}/",
            where=str(folders[0].parent),
            remedy="Move the wrong one away",
        )
    return folders[0]


def _folder_kind(name: str) -> tuple[str, str]:
    """Return kind (`image`, `mask`, "") and split: (`mask`, `train`) for `train_masks`."""
    low = name.lower()
    words = split_words(name)
    split = find_split_name(words) or ""
    if is_visualization_folder(name):
        return "", split
    if is_mask_folder(name) or low in _TARGET_NAMES:
        return "mask", split
    if low in IMAGE_FOLDER_NAMES or (IMAGE_FOLDER_NAMES - {"data"}) & set(words):
        return "image", split
    return "", ""


def _pair_masks(
    root: Path, images: Path, masks: Path, direct: bool
) -> tuple[list[ImageMaskPair], list[Path], list[tuple[Path, Path]], int]:
    """Return the images of a folder with masks, and what is not used.

    Returns:
        The images, the masks without an image, (mask, second mask) of each further file of an
        image that has a mask of its name, and the number of mask files.
    """
    image_files = images_below(images)
    if direct:
        image_files = [image for image in image_files if image.parent == images]
    by_key: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for image in image_files:
        by_key[normalize_name(_relative_parent(image, images)), normalize_name(image.stem)].append(
            image
        )
    others: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for (parent, stem), same in by_key.items():
        if (bare := bare_image_stem(stem)) is not None and (parent, bare) not in by_key:
            others[parent, bare] += same
    by_key.update(others)
    found: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    unused = []
    files = images_below(masks)
    for mask in files:
        at = _find_images(normalize_name(_relative_parent(mask, masks)), mask, by_key)
        if at is None:
            unused.append(mask)
        else:
            for image in at[0]:
                found[image].append((at[1], mask))
    pairs = []
    seconds: list[tuple[Path, Path]] = []
    for image in image_files:
        of = found[image]
        whole = [file for file in of if not file[0]]
        if len(whole) > 1:
            raise DataError(
                f"{image.name} has two masks: {whole[0][1].name} and {whole[1][1].name}",
                where=str(masks),
                remedy="Remove the wrong one",
            )
        if whole:
            seconds += [(whole[0][1], mask) for class_name, mask in of if class_name]
        parts = image.relative_to(root).parts[:-1]
        inner = [
            p for p in Path(_relative_parent(image, images)).parts if p.lower() not in SPLIT_NAMES
        ]
        pairs.append(
            ImageMaskPair(
                image, tuple(whole or of), "/".join(inner), find_split_name(_path_words(parts))
            )
        )
    return pairs, unused, seconds, len(files)


def _without_masks_of_folder(
    root: Path, pairs: list[ImageMaskPair], hints: LayoutHints
) -> dict[Path, str]:
    """Return images that would be good though their whole split or folder has no mask, and why.

    Not of `train`, which has good images alone in many sets, and not of a folder named as good.
    """
    are_groups = folders_are_groups(pairs)
    masked = {(pair.split, pair.folder) for pair in pairs if pair.masks}
    splits = {split for split, _folder in masked}
    folders = {folder for _split, folder in masked if folder}
    reasons: dict[Path, str] = {}
    for pair in pairs:
        if class_of_folder(pair.folder) and not are_groups:
            continue  # its folder is its class
        is_split = pair.split not in (None, "train") and pair.split not in splits
        is_folder = bool(folders and pair.folder) and pair.folder not in folders
        if (is_split or (is_folder and pair.split != "train")) and not any(
            is_good_class(part, hints.good_classes) for part in pair.path.relative_to(root).parts
        ):
            what = f"the split {pair.split}" if is_split else f"{pair.folder}/"
            reasons[pair.path] = (
                f"no image of {what} has a mask (--good-class NAME names a folder of good images)"
            )
    return reasons


def _unlabelled_by_table(root: Path, pairs: list[ImageMaskPair]) -> dict[Path, str]:
    """Return images without a mask whose mask DAGM's `Labels.txt` names, and why.

    A line has the image and its mask, `0` for none: `1  1  0001.PNG  1  0001_label.PNG`.
    """
    bare = {normalize_name(pair.path.name): pair.path for pair in pairs if not pair.masks}
    reasons: dict[Path, str] = {}
    tables = [
        file
        for folder in sorted({pair.path.parent for pair in pairs})
        for inner in subfolders(folder)
        if inner.name.lower() == "label"
        for file in files_in(inner)
        if file.name.lower() == "labels.txt"
    ]
    for table in tables:
        for text in read_table_text(table).splitlines():
            names = [word for word in text.split() if is_image_name(word)]
            image = bare.get(normalize_name(names[0])) if len(names) > 1 else None
            if image is not None and image.parent == table.parent.parent:
                reasons[image] = f"{table.name} names its mask {names[1]}, which does not exist"
    return reasons


def _skip_second_masks(root: Path, seconds: list[tuple[Path, Path]]) -> list[SkippedImage]:
    """Return the second masks of images as skipped: `a_2.png` where there is `a.png`.

    Raises:
        DataError: One has a defect that the first has not, or either cannot be read.
    """
    for first, second in seconds:
        ours, theirs = (set_pixels(read_mask_values(path)) for path in (first, second))
        if theirs.any() and (ours.shape != theirs.shape or (theirs & ~ours).any()):
            raise DataError(
                f"{second.name} has a defect that {first.name} has not, and both are masks of one "
                "image",
                where=str(second.parent),
                remedy="Unite the two, or name each NAME_<class>.png",
            )
    return [
        SkippedImage(str(second.relative_to(root)), f"is a second mask: {first.name} is read", True)
        for first, second in seconds
    ]


def _path_words(parts: tuple[str, ...]) -> list[str]:
    return [word for part in parts for word in (part, *re.split(r"[^A-Za-z]+", part))]


def _relative_parent(path: Path, base: Path) -> str:
    parent = path.parent.relative_to(base).as_posix()
    return "" if parent == "." else parent


def _find_images(
    parent: str, mask: Path, images_by_key: dict[tuple[str, str], list[Path]]
) -> tuple[list[Path], str] | None:
    """Return the images of a mask, and its class if the file holds a single class."""
    stem, stems = normalize_name(mask.stem), mask_stems(mask)
    for each in stems:
        if (parent, each) in images_by_key:
            return images_by_key[parent, each], ""
    for cut in reversed([match.start() for match in re.finditer(r"[_\-. ]", stem)]):
        for each in (stem[:cut], split_suffix(stem[:cut])[0]):
            if (parent, each) in images_by_key and cut + 1 < len(stem):
                if _NUMBERED_MASK.fullmatch(stem[cut + 1 :]):
                    return None  # of an image of that number, which is missing
                raw = mask.stem.strip()
                name = raw if len(raw) == len(stem) else stem  # keep the spelling
                return images_by_key[parent, each], name[cut + 1 :]
    above, _, folded = parent.rpartition("/")
    for each in stems if folded else ():
        if (above, each) in images_by_key:
            return images_by_key[above, each], mask.parent.name
    return None
