"""What a dataset scan means for training: findings with remedies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from edgeinspect.learning.datasets.dataset import SPLITS
from edgeinspect.learning.datasets.duplicates import DuplicatePair
from edgeinspect.learning.datasets.load import MAX_BROKEN_RATIO
from edgeinspect.learning.datasets.scan import DatasetScan, ScannedImage

Level = Literal["error", "warning", "note"]

MIN_TEST_IMAGES = 10
"""With fewer test images of a class, its metrics are not meaningful."""
_INVERTED_RATIO = 0.5
_MAX_CLASSES = 8
_MAX_REMEDIES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem or note about a data set."""

    level: Level
    """`error`: the set cannot be trained on. `warning`: metrics would mislead."""
    message: str
    remedy: str = ""


def check_dataset(scan: DatasetScan) -> list[Finding]:
    """Return all findings about a set, the most severe first."""
    found = [Finding("note", note) for note in scan.data.notes]
    for look in (
        _skipped_images,
        _broken_images,
        _missing_labels,
        _mask_problems,
        _duplicate_problems,
        _split_problems,
        _image_properties,
    ):
        found += look(scan)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _list_names(images: list[ScannedImage], max_names: int = 3) -> str:
    names = ", ".join(one.sample.name for one in images[:max_names])
    return f"{names}, …" if len(images) > max_names else names


def _split_command(scan: DatasetScan) -> str:
    return f"edgeinspect data split {scan.data.root}"


def _skipped_images(scan: DatasetScan) -> list[Finding]:
    found = []
    for level, on_purpose in (("warning", False), ("note", True)):
        some = [one for one in scan.data.skipped if one.is_intentional is on_purpose]
        if some:
            names = ", ".join(one.name for one in some[:3]) + (", …" if some[3:] else "")
            remedy = "" if on_purpose else "Each is listed with the reason"
            found.append(Finding(level, f"{len(some)} images are skipped: {names}", remedy))  # type: ignore[arg-type]
    return found


def _broken_images(scan: DatasetScan) -> list[Finding]:
    broken = scan.broken
    if not broken:
        return []
    lost = [seen for seen in broken if seen.size is None]
    wrong = [seen for seen in broken if seen.size is not None]
    level: Level = "error" if len(broken) > MAX_BROKEN_RATIO * len(scan.images) else "warning"
    out = []
    if lost:
        out.append(
            Finding(
                level,
                f"{len(lost)} images cannot be read: {_list_names(lost)}",
                _common_remedies(lost, "Copy them again; training skips them"),
            )
        )
    if wrong:
        out.append(
            Finding(
                level,
                f"{len(wrong)} masks do not match their images: {_list_names(wrong)}",
                _common_remedies(wrong, "See the problems listed; training skips these images"),
            )
        )
    return out


def _common_remedies(broken: list[ScannedImage], otherwise: str) -> str:
    """Return the remedies, that of the most images first."""
    count = Counter(seen.remedy for seen in broken if seen.remedy)
    listed = "; ".join(
        f"{remedy} ({number} of them)" if len(count) > 1 else remedy
        for remedy, number in count.most_common(_MAX_REMEDIES)
    )
    return f"{listed}. Training skips them" if listed else otherwise


def _missing_labels(scan: DatasetScan) -> list[Finding]:
    usable = [seen for seen in scan.images if not seen.problem]
    bad = sum(seen.sample.is_defective or seen.defect_px > 0 for seen in usable)
    if not usable:
        return []
    if not bad:
        return [
            Finding(
                "error",
                "no image is defective",
                "A model cannot be trained; name the good classes with --good-class",
            )
        ]
    if bad == len(usable):
        names = scan.data.classes
        listed = ", ".join(names[:_MAX_CLASSES]) + (", …" if names[_MAX_CLASSES:] else "")
        otherwise = "train a segmenter, or add" if scan.data.has_masks else "add"
        return [
            Finding(
                "warning",
                "every image is defective: a gate cannot be trained",
                f"Name its good classes ({listed}) with --good-class NAME; "
                f"otherwise {otherwise} good images",
            )
        ]
    return []


def _mask_problems(scan: DatasetScan) -> list[Finding]:
    if not scan.data.has_masks:
        return [Finding("note", "no masks: the set can train a gate, not a segmenter")]
    out = []
    usable = [seen for seen in scan.images if seen.class_px]
    empty = [seen for seen in usable if seen.sample.is_defective and not seen.defect_px]
    if empty:
        out.append(
            Finding(
                "warning",
                f"{len(empty)} defective images have no defect pixel: {_list_names(empty)}",
                "Draw their masks; without masks they can train a gate only",
            )
        )
    against = [
        seen
        for seen in usable
        if seen.defect_px and (not seen.sample.is_defective or _has_other_class(seen))
    ]
    if against:
        out.append(
            Finding(
                "warning",
                f"{len(against)} masks contradict their label: {_list_names(against)}",
                "Correct the label or the mask",
            )
        )
    full = [seen for seen in usable if seen.defect_px > _INVERTED_RATIO * sum(seen.class_px)]
    if usable and len(full) > len(usable) / 2:
        out.append(
            Finding(
                "warning",
                f"in {len(full)} images most pixels are defects",
                "Are the masks inverted? Defects must be nonzero, background 0",
            )
        )
    for class_id, name in enumerate(scan.data.classes, 1):
        if usable and not sum(seen.class_px[class_id] for seen in usable):
            out.append(
                Finding(
                    "warning",
                    f"class '{name}' has no pixels",
                    "Add images of it; removing its name from the set's list would shift the ids",
                )
            )
    return out


def _has_other_class(image: ScannedImage) -> bool:
    """Return whether the mask has none of the classes that the labels name."""
    return bool(image.sample.class_ids) and not any(
        image.class_px[class_id] for class_id in image.sample.class_ids
    )


def _duplicate_problems(scan: DatasetScan) -> list[Finding]:
    out = []

    def best(pairs: list[DuplicatePair]) -> str:
        pair = max(pairs, key=lambda pair: pair.correlation)
        return f"{scan.images[pair.first].sample.name} and {scan.images[pair.second].sample.name}"

    leaks = [pair for pair in scan.leaks() if pair.is_exact]
    near = [pair for pair in scan.leaks() if not pair.is_exact]
    remedy = (
        f"Split again with: {_split_command(scan)} --resplit --group-duplicates --out split.json"
    )
    if leaks:
        out.append(
            Finding(
                "warning",
                f"{len(leaks)} exact duplicates are in two splits, such as {best(leaks)}: "
                "test metrics would be too good",
                remedy,
            )
        )
    if near:
        out.append(
            Finding(
                "warning",
                f"{len(near)} near duplicates (rotated, mirrored, other exposure) are in "
                f"two splits, such as {best(near)}",
                remedy,
            )
        )
    if contrary := scan.contradictions():
        out.append(
            Finding(
                "warning",
                f"{len(contrary)} exact duplicates are labelled both good and defective, such as "
                f"{best(contrary)}",
                "Correct one of the two labels",
            )
        )
    inside = len(scan.duplicates) - len(leaks) - len(near)
    if inside:
        out.append(Finding("note", f"{inside} pairs of duplicates are within one split"))
    return out


def _split_problems(scan: DatasetScan) -> list[Finding]:
    data = scan.data
    if not any(sample.split for sample in data.samples):
        return [
            Finding(
                "note",
                "the set has no split",
                f"Make one with: {_split_command(scan)} --out split.json",
            )
        ]
    out = []
    if missing := [name for name in SPLITS if not data.in_splits(name)]:
        words = " and no ".join(missing)
        out.append(Finding("note", f"the set has no {words} split; training creates it"))
    train, test = data.in_splits("train"), data.in_splits("test")
    bad = any(sample.is_defective for sample in data.samples)
    if train and bad and not any(sample.is_defective for sample in train):
        out.append(
            Finding(
                "note",
                "train holds good images only (as for anomaly detection); "
                "training splits the set again",
            )
        )
    found = {
        name: {class_id for sample in samples for class_id in sample.class_ids}
        for name, samples in (("train", train), ("val", data.in_splits("val")), ("test", test))
    }
    strange = sorted((found["val"] | found["test"]) - found["train"])
    if found["train"] and strange:  # usually a class spelled differently in another split
        names = ", ".join(repr(data.classes[class_id - 1]) for class_id in strange)
        out.append(
            Finding(
                "warning",
                f"train has no image of {names}, which val or test have",
                "Spell the classes alike in all splits, or split again with: "
                f"{_split_command(scan)} --resplit --out split.json",
            )
        )
    shared = {sample.group for sample in train} & {sample.group for sample in test}
    if shared:
        out.append(
            Finding(
                "warning",
                f"{len(shared)} groups are in both train and test",
                f"Split again with: {_split_command(scan)} --resplit --out split.json",
            )
        )
    if test:
        count = Counter(class_id for sample in test for class_id in sample.class_ids)
        few = [n for i, n in enumerate(data.classes, 1) if count[i] < MIN_TEST_IMAGES]
        if few:
            out.append(
                Finding(
                    "note",
                    f"test has fewer than {MIN_TEST_IMAGES} images of: {', '.join(few)}",
                    "Report their metrics with confidence intervals",
                )
            )
    return out


def _image_properties(scan: DatasetScan) -> list[Finding]:
    out = []
    if scan.data.bit_depth > 8:
        out.append(
            Finding(
                "note",
                f"images have {scan.data.bit_depth} bits and are shifted to 8; "
                "the line's camera must do the same",
                f"For a folder camera, set `bits: {scan.data.bit_depth}`",
            )
        )
    if len(scan.sizes) > 1:
        (height, width), count = scan.sizes[0]
        out.append(
            Finding(
                "note",
                f"images have {len(scan.sizes)} sizes ({count} are {height} "
                f"x {width} px); they are letterboxed to one size",
            )
        )
    colored = sum(seen.is_colored for seen in scan.images)
    if 0 < colored < sum(seen.size is not None for seen in scan.images):
        out.append(Finding("note", f"{colored} images are coloured, the others grey"))
    return out
