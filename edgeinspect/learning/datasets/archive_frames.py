"""An archive's frames as a data set, labelled by the line's verdicts and by manual corrections.

A model trained on the line's own verdicts learns to agree with itself: such a set is only as
good as the corrections that go with it. These are a CSV file:

    frame,label,mask
    strip.top.1763715600000.12,good,
    strip.top.1763715600000.19,scratch,masks/19.png
    strip.top.1763715600000.44,drop,

`good` and `drop` (skip the frame) are keywords in any case; everything else is a class, except
other words for good (`ok`), which are refused. `mask` is an image file beside the CSV file, white
where the defect is. Rows with an empty label and further columns are ignored, so the
`labels.csv` of an export can be filled in and passed back.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.domain import Decision, number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES, decode_classes, upsample_class_map
from edgeinspect.learning.datasets.class_names import check_clear_names, is_good_class
from edgeinspect.learning.datasets.dataset import ClassMap, Dataset, MaskReader, Sample
from edgeinspect.learning.datasets.files import natural_key
from edgeinspect.learning.datasets.masks.sources import BINARY_ENCODING, MaskFile
from edgeinspect.learning.datasets.tables import read_rows
from edgeinspect.storage.archive import ArchiveCategory, Sidecar, frame_name
from edgeinspect.wire import Mask as WireMask

GOOD, DROP = "good", "drop"


@dataclass(frozen=True, slots=True)
class Correction:
    """The correction of one frame."""

    label: str
    """`GOOD`, `DROP` or a class."""
    mask: Path | None = None


def read_corrections(path: Path) -> Mapping[str, Correction]:
    """Return corrections by frame name.

    Raises:
        DataError: Unreadable, without the columns, or two rows contradict each other.
    """
    found: dict[str, Correction] = {}
    rows = read_rows(path, allow_short_rows=True)
    if rows and not {"frame", "label"} <= set(rows[0]):
        raise DataError(
            "has no columns frame and label",
            where=str(path),
            remedy="Write frame,label,mask as its first line",
        )
    for line, row in enumerate(rows, 2):
        if not row["label"]:
            continue
        where = f"{path.name}:{line}"
        name = _frame_name(row["frame"])
        mask = path.parent / row["mask"] if row.get("mask") else None
        if mask is not None and not os.path.isfile(mask):  # False for a name that is too long
            raise DataError(f"mask {row['mask']} does not exist", where=where)
        correction = Correction(_parse_label(row["label"], where), mask)
        if mask is not None and correction.label in (GOOD, DROP):
            raise DataError(f"a frame that is {correction.label} has no mask", where=where)
        if found.setdefault(name, correction) != correction:
            raise DataError(f"contradicts an earlier row for {name}", where=where)
    return found


def _parse_label(text: str, where: str) -> str:
    """Return the label of a row, the two keywords in lower case.

    Raises:
        DataError: It is another word for good, which would count as a defect class.
    """
    low = text.casefold()
    if low in (GOOD, DROP):
        return low
    if is_good_class(text):
        raise DataError(
            f"'{text[:40]}' means good and is not a defect class",
            where=where,
            remedy=f"Write {GOOD}",
        )
    check_clear_names([text], where)
    return text


def _frame_name(text: str) -> str:
    """Return a frame's name without an image suffix."""
    stem, dot, suffix = text.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else text


ArchivedFrames = Iterable[tuple[Path, Sidecar]]
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class ArchivedMask:
    """The class map of the line's segmenter, upsampled to the size of the frame."""

    mask: WireMask
    override_class_id: int = 0
    """Class id for every foreground cell, from a correction; 0 keeps the line's own ids."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        mask = self.mask
        cells = decode_classes(mask.runs, mask.height_px, mask.width_px, where=f"seq {mask.seq}")
        if self.override_class_id:
            cells = np.where(cells > 0, self.override_class_id, 0).astype(np.uint8)
        return upsample_class_map(cells, mask.stride, height_px, width_px)


@dataclass(frozen=True, slots=True)
class BinaryMask:
    """A binary mask of one class."""

    file: MaskFile
    class_id: int

    def read(self, height_px: int, width_px: int) -> ClassMap:
        found: ClassMap = self.file.read(height_px, width_px) * np.uint8(self.class_id)
        return found


def archive_dataset(
    root: Path, frames: ArchivedFrames, corrections: Mapping[str, Correction]
) -> Dataset:
    """Return the labelled frames as a data set, sorted by name.

    Frames without a verdict and challenge parts are skipped unless a correction labels them, and
    so are frames that a correction drops.

    Raises:
        DataError: A correction names a frame that does not exist, or the verdicts come from
            models with different classes.
    """
    labelled = list(frames)
    classes = _class_names(labelled, corrections, root)
    samples, skipped = [], Counter[str]()
    missing = dict(corrections)
    for path, sidecar in labelled:
        name = frame_name(sidecar.verdict)
        correction = missing.pop(name, None)
        if correction is not None and correction.label == DROP:
            skipped["dropped by a correction"] += 1
        elif correction is None and sidecar.kind is ArchiveCategory.SIMULATED:
            skipped["challenge parts"] += 1
        elif correction is None and sidecar.verdict.decision is Decision.NO_VERDICT:
            skipped["without a verdict"] += 1
        elif correction is None and sidecar.verdict.needs_review:
            skipped["passed, for review"] += 1
        else:
            samples.append(_make_sample(path, sidecar, correction, classes))
    if missing:
        some = ", ".join(list(missing)[:_MAX_NAMES])
        raise DataError(
            f"{len(missing)} corrections name frames that are not in the archive: {some}",
            where=str(root),
        )
    bare = sum(sample.is_defective and sample.mask is None for sample in samples)
    bad = sum(sample.is_defective for sample in samples)
    notes = [
        f"{number_of(count, 'frame is', 'frames are')} skipped: {why}"
        for why, count in skipped.items()
    ]
    corrected = f", except for {len(corrections)} corrections" if corrections else ""
    notes.append(f"labels are the line's own verdicts{corrected}")
    if 0 < bare < bad:
        notes.append(f"{bare} of {bad} defective frames have no mask, so masks are not used")
    return Dataset(
        root,
        "archive",
        classes,
        tuple(sorted(samples, key=lambda r: natural_key(Path(r.name)))),
        has_masks=bad > 0 and not bare,
        notes=tuple(notes),
    )


def _make_sample(
    path: Path, sidecar: Sidecar, correction: Correction | None, classes: tuple[str, ...]
) -> Sample:
    verdict, image = sidecar.verdict, sidecar.picture
    defective = verdict.decision is Decision.REJECT
    ids = tuple(sorted(classes.index(name) + 1 for name in verdict.reject_classes))
    mask: MaskReader | None = ArchivedMask(sidecar.mask) if sidecar.mask is not None else None
    if correction is not None:
        defective = correction.label != GOOD
        class_id = classes.index(correction.label) + 1 if defective else 0
        ids = (class_id,) if defective else ()
        if correction.mask is not None:
            mask = BinaryMask(MaskFile(correction.mask, BINARY_ENCODING), class_id)
        elif mask is not None and sidecar.mask is not None:
            mask = ArchivedMask(sidecar.mask, class_id) if sidecar.mask.runs else None
    if not defective:
        ids, mask = (), None
    alone = classes[ids[0] - 1] if len(ids) == 1 else None
    return Sample(
        image.file,
        path.with_name(image.file),
        defective,
        alone if defective else GOOD,
        verdict.part_id or image.file,
        None,
        mask,
        ids,
    )


def _class_names(
    frames: Iterable[tuple[Path, Sidecar]], corrections: Mapping[str, Correction], root: Path
) -> tuple[str, ...]:
    """Return the names of classes 1..K by the class ids of the regions, then other kinds."""
    names: dict[int, str] = {}
    kinds: set[str] = set()
    top = 0
    for _path, sidecar in frames:
        for region in sidecar.verdict.regions:
            if names.setdefault(region.class_id, region.class_name) != region.class_name:
                raise DataError(
                    f"class {region.class_id} is {names[region.class_id]} in one verdict and "
                    f"{region.class_name} in another",
                    where=str(root),
                    remedy="Export a period in which one model ran: --since, --until",
                )
        if sidecar.mask is not None:
            top = max([top, *sidecar.mask.runs])
        if sidecar.verdict.kind_name:
            kinds.add(sidecar.verdict.kind_name)
    top = max([top, *names])
    class_names = [names.get(i, f"class_{i}") for i in range(1, top + 1)]
    labels = {each.label for each in corrections.values()} - {GOOD, DROP}
    class_names += sorted((labels | kinds) - set(class_names))
    return tuple(class_names) or ("defect",)
