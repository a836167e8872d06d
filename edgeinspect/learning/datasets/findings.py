"""What a data set scan means for training: findings with remedies."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeinspect.domain import number_of
from edgeinspect.learning.datasets.dataset import SPLITS, Dataset
from edgeinspect.learning.datasets.duplicates import DuplicatePair
from edgeinspect.learning.datasets.load import MAX_BROKEN_RATIO
from edgeinspect.learning.datasets.masks.inverted import MAY_BE_INVERTED, find_inverted
from edgeinspect.learning.datasets.scan import DatasetScan, ScannedImage
from edgeinspect.system import escape_name

Level = Literal["error", "warning", "note"]

MIN_TEST_IMAGES = 10
"""With fewer test images of a class, its metrics are not meaningful."""
_INVERTED_RATIO = 0.5
_MAX_CLASSES = 8
_MAX_REMEDIES = 3


@dataclass(frozen=True, slots=True)
class DatasetFinding:
    """One problem or note about a data set."""

    level: Level
    """`error`: the set cannot be trained on. `warning`: metrics would mislead."""
    message: str
    remedy: str = ""


def check_dataset(scan: DatasetScan) -> list[DatasetFinding]:
    """Return all findings about a set, the most severe first."""
    findings = [
        DatasetFinding("note", note) for note in scan.data.notes if MAY_BE_INVERTED not in note
    ]
    for check in (
        _skipped_images,
        _broken_images,
        _missing_labels,
        _mask_problems,
        _duplicate_problems,
        _split_problems,
        _image_properties,
    ):
        findings += check(scan)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def _warning(message: str, remedy: str) -> DatasetFinding:
    return DatasetFinding("warning", message, remedy)


def _note(message: str, remedy: str = "") -> DatasetFinding:
    return DatasetFinding("note", message, remedy)


def _list_names(images: list[ScannedImage], max_names: int = 3) -> str:
    names = ", ".join(one.sample.name for one in images[:max_names])
    return f"{names}, …" if len(images) > max_names else names


def _split_command(scan: DatasetScan, options: str = "") -> str:
    root = shlex.quote(escape_name(scan.data.root))
    return f"edgeinspect data split {root} {options}--out split.json"


def _skipped_images(scan: DatasetScan) -> Iterator[DatasetFinding]:
    for is_intentional in (False, True):
        some = [one for one in scan.data.skipped if one.is_intentional is is_intentional]
        if some:
            names = ", ".join(one.name for one in some[:3]) + (", …" if some[3:] else "")
            message = f"{number_of(len(some), 'image is', 'images are')} skipped: {names}"
            yield (
                _note(message)
                if is_intentional
                else _warning(message, "Each is listed with the reason")
            )


def _broken_images(scan: DatasetScan) -> Iterator[DatasetFinding]:
    unreadable = [image for image in scan.broken if image.size is None]
    mismatched = [image for image in scan.broken if image.size is not None]
    is_error = len(scan.broken) > MAX_BROKEN_RATIO * len(scan.images)
    level: Level = "error" if is_error else "warning"
    if unreadable:
        yield DatasetFinding(
            level,
            f"{number_of(len(unreadable), 'image')} cannot be read: {_list_names(unreadable)}",
            _file_remedies(unreadable),
        )
    if mismatched:
        yield DatasetFinding(
            level,
            f"{number_of(len(mismatched), 'mask')} cannot be used: {_list_names(mismatched)}: "
            f"{_common_problem(mismatched)}",
            _common_remedies(mismatched, "See the problems listed; training skips these images"),
        )


def _file_remedies(broken: list[ScannedImage]) -> str:
    """Return what helps with files that cannot be opened, and with damaged ones."""
    damaged = [image for image in broken if image.remedy]
    bare = [image for image in broken if not image.remedy]
    links = [image for image in bare if _is_dangling(image.sample.path)]
    closed = [image for image in bare if image not in links]
    locked = [image for image in closed if not os.access(image.sample.path, os.R_OK)]
    parts = []
    if links:
        parts.append(f"Restore what {_list_names(links)} links to, or remove the link")
    if locked:
        parts.append(f"Grant read permission for {_list_names(locked)}")
    if len(locked) < len(closed):
        parts.append("Copy the others again" if parts else "Copy them again")
    if damaged:
        return ". ".join((*parts, _common_remedies(damaged, "")))
    return f"{'. '.join(parts)}; training skips them"


def _is_dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _common_problem(broken: list[ScannedImage]) -> str:
    """Return the problem of the first image, and that others have others."""
    first = broken[0].problem
    others = any(image.problem != first for image in broken[1:])
    return f"{first} (the first; each is listed)" if others else first


def _common_remedies(broken: list[ScannedImage], otherwise: str) -> str:
    """Return the remedies, that of the most images first."""
    count = Counter(image.remedy for image in broken if image.remedy)
    listed = "; ".join(
        f"{remedy} ({number} of them)" if len(count) > 1 else remedy
        for remedy, number in count.most_common(_MAX_REMEDIES)
    )
    return f"{listed}. Training skips them" if listed else otherwise


def _missing_labels(scan: DatasetScan) -> Iterator[DatasetFinding]:
    usable = [image for image in scan.images if not image.problem]
    bad = sum(image.sample.is_defective or image.defect_px > 0 for image in usable)
    if usable and not bad:
        yield DatasetFinding(
            "error",
            "no image is defective",
            "A model cannot be trained; name the good classes with --good-class",
        )
    elif usable and bad == len(usable):
        names = scan.data.classes
        listed = ", ".join(names[:_MAX_CLASSES]) + (", …" if names[_MAX_CLASSES:] else "")
        message, otherwise = "a gate cannot be trained", "add good images"
        if _tells_kinds(scan.data):
            message = "a gate can tell their kinds apart, not whether a part is defective"
            otherwise = "train a gate of the kinds, or add good images"
        elif scan.data.has_masks:
            otherwise = "train a segmenter, or add good images"
        yield _warning(
            f"every image is defective: {message}",
            f"Name its good classes ({listed}) with --good-class NAME; otherwise {otherwise}",
        )


def _tells_kinds(data: Dataset) -> bool:
    """Return whether a gate can learn kinds of defects from labels of whole images."""
    kinds = {sample.class_ids for sample in data.samples if len(sample.class_ids) == 1}
    return not data.has_masks and len(kinds) > 1


def _mask_problems(scan: DatasetScan) -> Iterator[DatasetFinding]:
    if not scan.data.has_masks:
        yield _note("no masks: the set can train a gate, not a segmenter")
        return
    usable = [image for image in scan.images if image.class_px]
    empty = [image for image in usable if image.sample.is_defective and not image.defect_px]
    if empty:
        yield _warning(
            f"{number_of(len(empty), 'defective image has', 'defective images have')} no defect "
            f"pixel: {_list_names(empty)}",
            "Draw their masks; without masks they can train a gate only",
        )
    contrary = [
        image
        for image in usable
        if image.defect_px and (not image.sample.is_defective or _has_other_class(image))
    ]
    if contrary:
        yield _warning(
            f"{number_of(len(contrary), 'mask contradicts its', 'masks contradict their')} label: "
            f"{_list_names(contrary)}",
            "Correct the label or the mask",
        )
    full = [image for image in usable if image.defect_px > _INVERTED_RATIO * sum(image.class_px)]
    if usable and len(full) > len(usable) / 2:
        yield _warning(
            f"in {number_of(len(full), 'image')} most pixels are defects",
            "Are the masks inverted? Defects must be nonzero, background 0",
        )
    indices = find_inverted(
        [image.defect_px / max(1, sum(image.class_px)) for image in usable],
        [image.fills_frame for image in usable],
    )
    inverted = [usable[index] for index in indices]
    if inverted and len(full) <= len(usable) / 2:
        yield _warning(
            f"in {number_of(len(inverted), 'image')} most pixels up to the borders are defects, "
            f"in the others few: {_list_names(inverted)}",
            "Are these masks inverted? Defects must be nonzero, background 0",
        )
    for class_id, name in enumerate(scan.data.classes, 1):
        if usable and not sum(image.class_px[class_id] for image in usable):
            yield _warning(
                f"class '{name}' has no pixels",
                "Add images of it; removing its name from the set's list would shift the ids",
            )


def _has_other_class(image: ScannedImage) -> bool:
    """Return whether the mask has none of the classes that the labels name."""
    ids = image.sample.class_ids
    return bool(ids) and not any(image.class_px[class_id] for class_id in ids)


def _duplicate_problems(scan: DatasetScan) -> Iterator[DatasetFinding]:
    def example(pairs: list[DuplicatePair]) -> str:
        pair = max(pairs, key=lambda pair: pair.correlation)
        first, second = scan.images[pair.first], scan.images[pair.second]
        return f"{first.sample.name} and {second.sample.name}"

    leaks = scan.leaks()
    exact = [pair for pair in leaks if pair.is_exact]
    near = [pair for pair in leaks if not pair.is_exact]
    remedy = f"Split again with: {_split_command(scan, '--resplit --group-duplicates ')}"
    if exact:
        yield _warning(
            f"{number_of(len(exact), 'exact duplicate is', 'exact duplicates are')} in two splits, "
            f"such as {example(exact)}: test metrics would be too good",
            remedy,
        )
    if near:
        yield _warning(
            f"{number_of(len(near), 'near duplicate')} (rotated, mirrored, other exposure) in "
            f"two splits, such as {example(near)}",
            remedy,
        )
    if contrary := scan.contradictions():
        yield _warning(
            f"{number_of(len(contrary), 'exact duplicate is', 'exact duplicates are')} labelled "
            f"both good and defective, such as {example(contrary)}",
            "Correct one of the two labels",
        )
    if inside := len(scan.duplicates) - len(leaks):
        yield _note(f"{inside} pairs of duplicates are within one split")


def _split_problems(scan: DatasetScan) -> Iterator[DatasetFinding]:
    data = scan.data
    if not any(sample.split for sample in data.samples):
        yield _note("the set has no split", f"Make one with: {_split_command(scan)}")
        return
    resplit = _split_command(scan, "--resplit ")
    if missing := [name for name in SPLITS if not data.in_splits(name)]:
        names = " and no ".join(missing)
        yield _note(f"the set has no {names} split; training creates it")
    train, test = data.in_splits("train"), data.in_splits("test")
    has_defects = any(sample.is_defective for sample in data.samples)
    if train and has_defects and not any(sample.is_defective for sample in train):
        yield _note(
            "train holds good images only (as for anomaly detection); training splits the set again"
        )
    in_train, elsewhere = (
        {class_id for sample in samples for class_id in sample.class_ids}
        for samples in (train, data.in_splits("val", "test"))
    )
    if in_train and elsewhere - in_train:  # usually a class spelled differently in one split
        names = ", ".join(repr(data.classes[i - 1]) for i in sorted(elsewhere - in_train))
        yield _warning(
            f"train has no image of {names}, which val or test have",
            f"Spell the classes alike in all splits, or split again with: {resplit}",
        )
    shared = {sample.group for sample in train} & {sample.group for sample in test}
    if shared:
        yield _warning(
            f"{len(shared)} groups are in both train and test", f"Split again with: {resplit}"
        )
    count = Counter(class_id for sample in test for class_id in sample.class_ids)
    few = [name for i, name in enumerate(data.classes, 1) if count[i] < MIN_TEST_IMAGES]
    if test and few:
        yield _note(
            f"test has fewer than {MIN_TEST_IMAGES} images of: {', '.join(few)}",
            "Report their metrics with confidence intervals",
        )


def _image_properties(scan: DatasetScan) -> Iterator[DatasetFinding]:
    bits = scan.data.bit_depth
    if bits > 8:
        yield _note(
            f"images have {bits} bits and are shifted to 8; the line's camera must do the same",
            f"For a folder camera, set `bits: {bits}`",
        )
    if len(scan.sizes) > 1:
        (height, width), count = scan.sizes[0]
        yield _note(
            f"images have {len(scan.sizes)} sizes ({count} are {height} x {width} px); they are "
            "letterboxed to one size"
        )
    colored = sum(image.is_colored for image in scan.images)
    if 0 < colored < sum(image.size is not None for image in scan.images):
        yield _note(f"{number_of(colored, 'image is', 'images are')} coloured, the others grey")
