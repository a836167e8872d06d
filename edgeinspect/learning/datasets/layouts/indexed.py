"""An indexed folder: `images/`, `masks/`, and an `index.csv` with the labels.

Columns: `image` (a file in `images/`), and any of `class_name` and `class_id` (image-level; 0 is
good), `class_ids` (several, as `1 3`), `defective` (0 or 1), `group`, `split`, `<class>_px` (pixels
of a class), `mask` (a file, which rows may share). A pixel of that file, else of `masks/STEM.png`
(`masks/DAY/STEM.png` of `images/DAY/STEM.png`), is a class id, or white if `class_id` gives the
class. An image without a mask file has an empty mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.image_files import skip_unlisted
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, Sample, SkippedImage
from edgeinspect.learning.datasets.files import images_below, natural_key
from edgeinspect.learning.datasets.layouts._index_columns import (
    check_label_columns,
    classes_from_rows,
    has_names_only,
    normalize_columns,
    note_unlabelled_rows,
)
from edgeinspect.learning.datasets.layouts._index_masks import masks_of_rows
from edgeinspect.learning.datasets.layouts._index_rows import Index, make_sample
from edgeinspect.learning.datasets.masks.content import MaskContents, read_mask_contents
from edgeinspect.learning.datasets.masks.encoding import infer_encoding
from edgeinspect.learning.datasets.masks.first_names import with_background_line
from edgeinspect.learning.datasets.masks.inverted import note_inverted
from edgeinspect.learning.datasets.masks.label_maps import (
    label_map_in_order,
    read_class_names,
    read_label_map,
)
from edgeinspect.learning.datasets.masks.pair_folders import ImageMaskPair
from edgeinspect.learning.datasets.masks.pairing import dataset_from_pairs
from edgeinspect.learning.datasets.masks.sources import (
    BINARY_ENCODING,
    UNLABELLED,
    MaskEncoding,
    MaskFile,
    MaskPerClass,
)
from edgeinspect.learning.datasets.name_matching import (
    FileNameIndex,
    are_few,
    check_missing_images,
    normalize_name,
)
from edgeinspect.learning.datasets.tables import NumberedRow, read_header, read_numbered_rows

NEEDS = "an index.csv with a column `image`, and the folders images/ and (for masks) masks/"
RANK = 10


def recognise(path: Path) -> bool:
    """Return whether a folder has images/ and an index.csv with an `image` column."""
    header = [name.casefold() for name in read_header(path / "index.csv")]
    return "image" in header and (path / "images").is_dir()


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the samples of the index, sorted by name."""
    csv_path = path / "index.csv"
    rows = [(line, normalize_columns(row)) for line, row in read_numbered_rows(csv_path)]
    if not rows:
        raise DataError("has no rows", where=str(csv_path))
    names, missing = _match_rows(csv_path, rows, path / "images")
    masks, images = path / "masks", path / "images"
    every = images_below(masks) if masks.is_dir() else []
    by_row = masks_of_rows(csv_path, [(line, row) for line, row in rows if line in names], every)
    own = [mask for mask in every if mask not in by_row.values()]
    files = _masks_by_image(own, masks, images)
    orphans = [mask for mask in own if mask not in files.values()]
    for line, mask in by_row.items():
        _check_single_mask(path, files.setdefault(names[line], mask), mask)
    every = list(dict.fromkeys((*every, *by_row.values())))
    missing += _skip_orphans(orphans, len(every), path)
    check_label_columns(rows, csv_path, bool(every))
    classes = hints.classes or classes_from_rows(rows, csv_path, hints)
    is_settled = bool(classes)
    contents = read_mask_contents(every)
    notes = []
    if not classes and (label_map := read_label_map(path)) is not None:
        label_map = with_background_line(label_map, _all_values(contents))
        classes = label_map.names
        notes += [label_map.note] if label_map.note else []
    by_name = not hints.classes and has_names_only(rows[0][1])
    listed = read_class_names(path) if by_name and is_settled else classes
    if by_name and set(listed) >= set(classes):
        classes, by_name = listed, False
    rows = [(line, row) for line, row in rows if line in names]
    if every and not classes:
        data = _defective_from_masks(
            Index(csv_path, rows, names, (), hints.good_classes), files, hints
        )
        data = _with_shared(data, (names[line] for line in by_row))
        return _with_unlisted(data.with_skipped(*missing), images)
    index = Index(csv_path, rows, names, classes, hints.good_classes)
    # With binary masks, the label gives the class of white pixels.
    white = (
        len(classes) > 1
        and _all_values(contents) == {UNLABELLED}
        and not _declares_void(path, classes)
    )
    encoding = BINARY_ENCODING
    if every and not white:
        if by_name and len(classes) > 1:
            raise DataError(
                f"names the classes {', '.join(classes)}, but not the mask value of each",
                where=str(csv_path),
                remedy="Add a column class_id, or a classes.txt beside it: one name per line",
            )
        encoding = _infer_encoding(contents, classes, csv_path, is_settled=is_settled)
    samples = [
        make_sample(index, row, line, files, None if white else encoding) for line, row in rows
    ]
    _check_class_ids(samples, contents, encoding, csv_path)
    if not classes and any(sample.is_defective for sample in samples):
        classes = ("defect",)
    data = Dataset(path, "indexed", classes, _sorted_samples(samples), bool(every))
    data = _with_shared(data, (names[line] for line in by_row))
    data = data.with_skipped(*missing).with_notes(
        *notes,
        *(note_inverted(contents, path) if every else note_unlabelled_rows(rows, csv_path, hints)),
    )
    return _with_unlisted(data, images)


def _with_shared(data: Dataset, names: Iterable[str]) -> Dataset:
    """Return the set in which the masks of some images, given by a table, may be shared."""
    given = set(names)
    return data.with_samples(
        [
            replace(sample, mask=replace(sample.mask, is_shared=True))
            if sample.name in given and isinstance(sample.mask, MaskFile | MaskPerClass)
            else sample
            for sample in data.samples
        ]
    )


def _skip_orphans(orphans: Sequence[Path], total: int, root: Path) -> list[SkippedImage]:
    """Return masks without an image as skipped.

    Raises:
        DataError: They are more than a few.
    """
    names = [str(mask.relative_to(root)) for mask in orphans]
    if not are_few(len(orphans), total):
        raise DataError(
            f"{len(orphans)} of {total} masks have no image: {', '.join(names[:3])}",
            where=str(root),
            remedy="Name masks after their images, or add a column mask to index.csv with the mask "
            "of each image",
        )
    return [SkippedImage(name, "is a mask without an image") for name in names]


def _with_unlisted(data: Dataset, images: Path) -> Dataset:
    """Return the set with the images that its index does not name listed as skipped."""
    existing = {str(file.relative_to(images)): file for file in images_below(images)}
    used = [sample.path for sample in data.samples]
    skipped = skip_unlisted(existing, used, "is not in the index")
    if not skipped:
        return data
    count = number_of(len(skipped), "image is", "images are")
    return data.with_skipped(*skipped).with_notes(f"{count} not in the index")


def _check_class_ids(
    samples: Sequence[Sample], contents: MaskContents, encoding: MaskEncoding, path: Path
) -> None:
    """Check that the labels of the index and the masks number the classes alike."""
    both = [
        (sample, ids)
        for sample in samples
        if isinstance(sample.mask, MaskFile)
        and not encoding.is_soft
        and sample.class_ids
        and (
            ids := {encoding.ids.get(value, 0) for value in contents[sample.mask.path].values} - {0}
        )
    ]
    against = [sample for sample, ids in both if not ids & set(sample.class_ids)]
    if not are_few(len(against), len(both)):
        some = ", ".join(sample.name for sample in against[:3])
        raise DataError(
            f"{len(against)} of {len(both)} masks have none of the classes that their rows name "
            f"({some})",
            where=str(path),
            remedy="Number the classes alike in the index and in the masks",
        )


def _all_values(contents: MaskContents) -> set[int]:
    return set().union(*(one.values for one in contents.values()))


def _infer_encoding(
    contents: MaskContents, classes: tuple[str, ...], path: Path, *, is_settled: bool
) -> MaskEncoding:
    """Infer the encoding for the index's classes; a few masks of other values are broken.

    Args:
        contents: What the masks contain.
        classes: The classes of the index.
        path: The index.
        is_settled: Rows or the user name the classes, so that they start at 1.
    """
    known = {*range(1, len(classes) + 1), UNLABELLED}
    odd = [file for file, one in contents.items() if not one.values <= known]
    if are_few(len(odd), len(contents)) and not are_few(len(contents), len(contents)):
        contents = {file: one for file, one in contents.items() if file not in odd}
    label_map = read_label_map(path.parent)
    if label_map is None or label_map.names != classes:
        label_map = label_map_in_order(classes, str(path))
    elif is_settled:
        label_map = replace(label_map, is_bare_list=False)
    return infer_encoding(contents, label_map, path.parent).encoding


def _declares_void(root: Path, classes: tuple[str, ...]) -> bool:
    """Return whether the set's label map says that 255 is unlabelled."""
    label_map = read_label_map(root)
    return label_map is not None and label_map.names == classes and UNLABELLED in label_map.void


def _match_rows(
    path: Path, rows: list[NumberedRow], images: Path
) -> tuple[dict[int, str], list[SkippedImage]]:
    """Return the file of each line, and the lines whose image does not exist."""
    files = [str(file.relative_to(images)) for file in images_below(images)]
    names, found, missing = FileNameIndex(files, str(path)), {}, {}
    for line, row in rows:
        if not row["image"]:
            raise DataError("names no image", where=f"{path}:{line}")
        name = names.find(row["image"])
        if name is None:
            missing[row["image"]] = f"{path.name}:{line}"
        else:
            found[line] = name
    check_missing_images(missing, len(rows), path, images)
    return found, [
        SkippedImage(name, f"{row} names it, but the image does not exist")
        for name, row in missing.items()
    ]


def _masks_by_image(every: Sequence[Path], masks: Path, images: Path) -> dict[str, Path]:
    """Return the mask of each image name: that in the same folders, else that of the same stem.

    A mask in the folders of one image is never that of another.
    """
    names = [file.relative_to(images) for file in images_below(images)]
    paths = {_without_suffix(name) for name in names}
    own: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for mask in every:
        key = _without_suffix(mask.relative_to(masks))
        found, key = (own, key) if key in paths else (others, normalize_name(mask.stem))
        _check_single_mask(masks, found.setdefault(key, mask), mask)
    by_image: dict[str, Path] = {}
    for name in names:
        found_masks = [own.get(_without_suffix(name)), others.get(normalize_name(name.stem))]
        for mask in filter(None, found_masks):
            _check_single_mask(masks, by_image.setdefault(str(name), mask), mask)
    return by_image


def _without_suffix(name: Path) -> str:
    return normalize_name(str(name.with_suffix("")))


def _check_single_mask(masks: Path, first: Path, second: Path) -> None:
    if first != second:
        both = (str(mask.relative_to(masks)) for mask in (first, second))
        raise DataError(
            f"two masks could belong to one image: {' and '.join(both)}",
            where=str(masks),
            remedy="Give each the folders and the name of its image, or move the wrong one away",
        )


def _defective_from_masks(index: Index, files: dict[str, Path], hints: LayoutHints) -> Dataset:
    """Read an index without classes: images with mask pixels are defective."""
    root = index.path.parent
    pairs, rows = [], {}
    for line, row in index.rows:
        sample = make_sample(index, row, line, files, BINARY_ENCODING)
        mask = files.get(sample.name)
        pairs.append(ImageMaskPair(sample.path, (("", mask),) if mask else ()))
        rows[sample.path] = sample
    data = dataset_from_pairs(root, "indexed", pairs, hints)
    samples = []
    for sample in data.samples:
        row_sample = rows[sample.path]
        is_row_defective = row_sample.is_defective and "defective" in index.rows[0][1]
        samples.append(
            replace(
                sample,
                name=row_sample.name,
                group=row_sample.group,
                split=row_sample.split,
                is_defective=bool(sample.class_ids) or is_row_defective,
            )
        )
    return data.with_samples(_sorted_samples(samples))


def _sorted_samples(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: natural_key(Path(sample.name))))
