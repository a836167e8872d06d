"""COCO's JSON: images, categories, and annotations with boxes, polygons or run lengths.

`annotations/instances_<split>.json` beside `images/` or `images/<split>/` (CVAT, Datumaro),
`<split>/_annotations.coco.json` beside its images (Roboflow), `result.json` and `images/`
(Label Studio), or any such file beside its images or in the folder above.

Classes follow the ids of the categories. An image without annotations is good, unless its file
has no list `annotations` at all: it lists images that are not labelled. The polygons of
an annotation are united, a crowd (`iscrowd`) is an area like others, and the box counts only if
there is no segmentation.

Source: the "Data format" page of the COCO dataset; `maskApi.c` of pycocotools
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.annotated_set import (
    AnnotatedImage,
    AnnotatedImages,
    dataset_from_annotations,
)
from edgeinspect.learning.datasets.annotations.documents import read_json
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_with_suffix,
    has_words,
    label_folders,
)
from edgeinspect.learning.datasets.annotations.repeated_images import without_repeats
from edgeinspect.learning.datasets.annotations.run_lengths import (
    decode_compressed_counts,
    runs_from_counts,
)
from edgeinspect.learning.datasets.annotations.shapes import (
    Box,
    LabelledShape,
    Polygon,
    Shape,
    as_points,
)
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import find_split_name, split_words

NEEDS = "a COCO file (annotations/*.json, _annotations.coco.json) and the images that it names"
RANK = 12
_WORDS = (b'"images"', b'"categories"')
_HINTS = (b'"licenses"', b'"image_id"', b'"category_id"', b'"file_name"', b'"supercategory"')
_FOLDER_NAMES = ("annotations", "annotation", "labels")
_OTHER_TASKS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info", "labels")
"""Beginnings of COCO files of other tasks, which may lie beside `instances_*.json`."""
_INSTANCES = "instances"
_BOX_VALUES = 4


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None
    group: str = ""
    """Not of COCO: written by `data convert`."""


class _Category(msgspec.Struct):
    id: int
    name: str
    supercategory: str | None = None


class _Runs(msgspec.Struct):
    counts: str | list[int]
    size: list[int]


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    id: int | str | None = None
    bbox: list[float] | None = None
    segmentation: list[list[float] | float] | _Runs | None = None


class _Document(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] | msgspec.UnsetType = msgspec.UNSET
    """Unset in a file of unlabelled images; an empty list is of good ones."""


@dataclass(frozen=True, slots=True)
class _File:
    """A COCO file that was decoded."""

    path: Path
    document: _Document
    split: str | None

    @property
    def annotations(self) -> list[_Annotation]:
        found = self.document.annotations
        return [] if isinstance(found, msgspec.UnsetType) else found

    @property
    def is_labelled(self) -> bool:
        """Whether an image without annotations is good."""
        return not isinstance(self.document.annotations, msgspec.UnsetType)

    def folders(self, files: ImageFiles) -> list[Path]:
        """Return where its images are looked for first."""
        here, above = self.path.parent, self.path.parent.parent
        subset = self.path.stem.partition("_")[2]
        return [
            here,
            here / "images",
            above / "images" / subset,
            above / subset,
            *files.split_folders(self.split, here, above / "images", above),
            above / "images",
            above,
        ]


def recognise(path: Path) -> bool:
    """Return whether this is a COCO file, or a folder with one."""
    return bool(_coco_files(path))


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the images of all COCO files of a folder.

    Raises:
        DataError: A file is malformed, names a category or image that it does not list, or
            images that are not there, or an image twice.
    """
    paths = _coco_files(path)
    root = _root_of(path)
    files = ImageFiles(root, paths[0])
    opened = [
        _File(each, read_json(each, _Document, "COCO's JSON"), _split_of(each, root))
        for each in paths
    ]
    places, missing = _find_images(opened, files)
    images = without_repeats(
        [[*_read_file(file, places[file.path], files)] for file in opened if file.is_labelled]
    )
    known = {image.path for image in images}
    unlabelled = {
        place: f"{file.path.name} lists it, but has no annotations"
        for file in opened
        if not file.is_labelled
        for place in places[file.path].values()
        if place not in known
    }
    skipped = skip_unlabelled(root, unlabelled, len(known) + len(unlabelled))
    _check_several(images, opened)
    unlisted, notes = files.unlisted(known | unlabelled.keys(), paths[0])
    classes, dropped = _class_names(opened)
    if dropped:
        notes.append(f"category {dropped} only groups the others, and is not a class")
    return dataset_from_annotations(
        AnnotatedImages(
            root, "coco", files, images, classes, notes, [*missing, *skipped, *unlisted]
        ),
        hints,
    )


def _check_several(images: Sequence[AnnotatedImage], opened: Sequence[_File]) -> None:
    if not images:
        raise DataError("lists no image", where=str(opened[0].path))


def _root_of(path: Path) -> Path:
    """Return the set's folder; for a file, that with its images."""
    if path.is_dir():
        return path
    folder = path.parent
    return folder.parent if folder.name.lower() in _FOLDER_NAMES else folder


def _coco_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and has_words(path, _WORDS, _HINTS) else []
    found = [
        file
        for folder in label_folders(path, *_FOLDER_NAMES)
        for file in files_with_suffix(folder, ".json")
        if has_words(file, _WORDS, _HINTS)
    ]
    return _without_other_tasks(found)


def _without_other_tasks(found: list[Path]) -> list[Path]:
    if not any(file.stem.startswith(_INSTANCES) for file in found):
        return found
    return [file for file in found if not file.stem.startswith(_OTHER_TASKS)]


def _split_of(file: Path, root: Path) -> str | None:
    """Return the split that the folder or the name of a file means: `instances_val2017.json`."""
    parts = file.relative_to(root).parts[:-1]
    return find_split_name((*parts, *split_words(file.name.partition(".")[0])))


def _find_images(
    opened: Sequence[_File], files: ImageFiles
) -> tuple[dict[Path, dict[int | str, Path]], list[SkippedImage]]:
    """Return the path of each image id in each file, and images that are not there.

    A file that lists the images of all splits owns those of its own folder; the others belong to
    the file beside them. It is such a file if its images are those of several files, and none of
    the names that it owns is owned by another one.
    """
    places: dict[Path, dict[int | str, Path]] = {file.path: {} for file in opened}
    listed = [
        [(image.file_name, folders) for image in file.document.images]
        for file in opened
        for folders in [file.folders(files)]
    ]
    exact = [
        {name: path for name, folders in names if (path := files.find_exact(name, folders))}
        for names in listed
    ]
    times = Counter(name for names in exact for name in names)
    owner = {path: index for index, names in enumerate(exact) for path in names.values()}
    missing: dict[Path, dict[str, str]] = {}
    for file, names, own in zip(opened, listed, exact, strict=True):
        is_part = all(times[name] == 1 for name in own)
        found = files.find_all(names, file.split, owner if is_part else ())
        is_part = is_part and len({owner[path] for path in found if path in owner}) > 1
        for image, path in zip(file.document.images, found, strict=True):
            is_others = len(opened) > 1 and path in owner and image.file_name not in own
            if path is None or (is_others and not is_part):
                missing.setdefault(file.path, {})[image.file_name] = f"id {image.id}"
            elif not is_others:
                places[file.path][image.id] = path
    for file in opened:
        if named := missing.get(file.path):
            check_missing_images(named, len(file.document.images), file.path, files.root)
    return places, [
        SkippedImage(name, f"{path.name} names it, but the image does not exist")
        for path, named in missing.items()
        for name in named
    ]


def _class_names(opened: Sequence[_File]) -> tuple[tuple[str, ...], str]:
    """Return the names of the categories in the order of ids, and one that is only a group.

    Roboflow lists the group of its categories as a category with id 0.
    """
    used = {
        (index, annotation.category_id)
        for index, file in enumerate(opened)
        for annotation in file.annotations
    }
    documents = [file.document for file in opened]
    parents = {category.supercategory for document in documents for category in document.categories}
    ranked: dict[str, int] = {}
    in_use: set[str] = set()
    for index, document in enumerate(documents):
        for category in document.categories:
            ranked[category.name] = min(ranked.get(category.name, category.id), category.id)
            if (index, category.id) in used:
                in_use.add(category.name)
    names = sorted(ranked, key=lambda name: ranked[name])
    group = names[0] if names and ranked[names[0]] == 0 else ""
    is_group = group in parents and group not in in_use and len(names) > 1
    return tuple(name for name in names if not is_group or name != group), group if is_group else ""


def _read_file(
    file: _File, places: dict[int | str, Path], files: ImageFiles
) -> Iterator[AnnotatedImage]:
    document = file.document
    names = _categories_by_id(file)
    sizes: dict[int | str, tuple[int, int] | None] = {}
    for image in document.images:
        if image.id in sizes:
            raise DataError(f"lists two images with id {image.id}", where=str(file.path))
        stated = (image.height or 0, image.width or 0)
        if min(stated) < 0:
            raise DataError(f"image id {image.id} has a negative size", where=str(file.path))
        sizes[image.id] = stated if all(stated) else None
    shapes: dict[int | str, list[LabelledShape]] = {image.id: [] for image in document.images}
    tags: dict[int | str, list[str]] = {}
    for index, annotation in enumerate(file.annotations):
        at = f"id {annotation.id}" if annotation.id is not None else f"number {index + 1}"
        where = f"{file.path}, annotation {at}"
        if annotation.image_id not in shapes:
            raise _unlisted_id(annotation.image_id, shapes, where)
        if annotation.category_id not in names:
            raise DataError(
                f"has category_id {annotation.category_id}, which is not listed",
                where=where,
                remedy=f"The categories are {', '.join(map(str, sorted(names)[:20]))}",
            )
        name = names[annotation.category_id]
        path = places.get(annotation.image_id)
        size = sizes[annotation.image_id] or (files.size_of(path) if path else None)
        found = list(_read_shapes(annotation, size, where))
        shapes[annotation.image_id] += [LabelledShape(name, shape, where) for shape in found]
        if not found:
            tags.setdefault(annotation.image_id, []).append(name)
    for image in document.images:
        if path := places.get(image.id):
            yield AnnotatedImage(
                path,
                f"{file.path}, image id {image.id}",
                tuple(shapes[image.id]),
                tuple(tags.get(image.id, ())),
                sizes[image.id],
                file.split,
                image.group,
            )


def _unlisted_id(image_id: int | str, listed: Collection[int | str], where: str) -> DataError:
    """Return the error of an annotation whose image is not listed, or with its id in quotes."""
    if any(str(each) == str(image_id) for each in listed):
        kinds = ("text", "a number") if isinstance(image_id, str) else ("a number", "text")
        return DataError(
            f"has the image id {image_id} as {kinds[0]}, but the list of images has it as "
            f"{kinds[1]}",
            where=where,
            remedy='Write ids alike: all without quotes (1), or all with ("1")',
        )
    return DataError(f"is of image id {image_id}, which is not listed", where=where)


def _categories_by_id(file: _File) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in file.document.categories:
        if category.id in names or category.name in names.values():
            raise DataError(
                f"lists category {category.id} '{category.name}' twice", where=str(file.path)
            )
        names[category.id] = category.name
    return names


def _read_shapes(
    annotation: _Annotation, size: tuple[int, int] | None, where: str
) -> Iterator[Shape]:
    """Yield the areas of an annotation; its box if it has none; nothing if it has neither."""
    segmentation = annotation.segmentation
    if isinstance(segmentation, _Runs):
        if len(segmentation.size) != 2:
            raise DataError("has run lengths without a size [height, width]", where=where)
        height, width = segmentation.size
        if size is not None and (height, width) != size:
            raise DataError(
                f"has a mask of {height} x {width} px, its image {size[0]} x {size[1]} px",
                where=where,
                remedy="Export the annotations for the images of this size",
            )
        counts = segmentation.counts
        if isinstance(counts, str):
            counts = decode_compressed_counts(counts, where)
        yield runs_from_counts(counts, height, width, where)
        return
    if segmentation:
        is_flat = not isinstance(segmentation[0], list)
        for ring in [segmentation] if is_flat else segmentation:
            if not isinstance(ring, list) or len(ring) % 2 or len(ring) < 2:
                raise DataError("has a polygon that is not a list x, y, x, y …", where=where)
            if any(isinstance(value, list) for value in ring):
                raise DataError("has a polygon nested too deeply", where=where)
            yield Polygon((as_points(ring),))  # type: ignore[arg-type]  # checked above
        return
    if annotation.bbox:
        yield _read_box(annotation.bbox, where)


def _read_box(values: Sequence[float], where: str) -> Box:
    if len(values) != _BOX_VALUES:
        raise DataError(f"has a box of {len(values)} numbers, not x, y, width, height", where=where)
    left, top, width, height = values
    if width < 0 or height < 0:
        raise DataError(
            f"has a box of {width:g} x {height:g} px",
            where=where,
            remedy="COCO's boxes are x, y, width, height; are these two corners?",
        )
    return Box(left, top, left + width, top + height)
