"""An archive's frames as a data set: what the line said of them, and what a person says.

The labels are the line's own verdicts. A model trained on them learns to agree with itself, so
they are worth as much as the corrections that go with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.domain import Decision
from edgeinspect.errors import DataError
from edgeinspect.imaging import decode_classes
from edgeinspect.learning.datasets.corrections import DROP, GOOD, Correction
from edgeinspect.learning.datasets.dataset import ClassMap, Dataset, Mask, Sample
from edgeinspect.learning.datasets.files import natural_key
from edgeinspect.learning.datasets.masks.sources import BINARY_ENCODING, MaskFile
from edgeinspect.storage.archive import Category, Sidecar, frame_name
from edgeinspect.wire import Mask as WireMask

ArchivedFrames = Iterable[tuple[Path, Sidecar]]
_MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class ArchivedMask:
    """The class map that the line's segmenter found, at the size of the frame."""

    mask: WireMask
    override_class_id: int = 0
    """Class that all of it is, where a person says so; 0 for the line's own."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        told = self.mask
        cells = decode_classes(told.runs, told.height_px, told.width_px, where=f"seq {told.seq}")
        if self.override_class_id:
            cells = np.where(cells > 0, self.override_class_id, 0).astype(np.uint8)
        return upsample_class_map(cells, told.stride, height_px, width_px)


@dataclass(frozen=True, slots=True)
class BinaryMask:
    """A black and white mask of one class."""

    file: MaskFile
    class_id: int

    def read(self, height_px: int, width_px: int) -> ClassMap:
        found: ClassMap = self.file.read(height_px, width_px) * np.uint8(self.class_id)
        return found


def upsample_class_map(class_map: ClassMap, stride: int, height_px: int, width_px: int) -> ClassMap:
    """A class map at the frame's size: each cell is `stride` pixels each way.

    Raises:
        DataError: It is of a frame of another size.
    """
    full = class_map.repeat(stride, 0).repeat(stride, 1)
    if full.shape[0] < height_px or full.shape[1] < width_px:
        raise DataError(
            f"the class map is {full.shape[0]} x {full.shape[1]} px, its picture "
            f"{height_px} x {width_px} px"
        )
    return np.ascontiguousarray(full[:height_px, :width_px])


def archive_dataset(
    root: Path, frames: ArchivedFrames, corrections: Mapping[str, Correction]
) -> Dataset:
    """The frames that have a label, sorted by name.

    Left out are frames that could not be judged and challenge parts, unless a person says
    what they are, and those that a person drops.

    Raises:
        DataError: A correction names a frame that is not there, or models with different
            classes have judged.
    """
    told = list(frames)
    classes = _class_names(told, corrections, root)
    records, left_out = [], Counter[str]()
    missing = dict(corrections)
    for path, sidecar in told:
        name = frame_name(sidecar.verdict)
        said = missing.pop(name, None)
        if said is not None and said.label == DROP:
            left_out["dropped by a person"] += 1
        elif said is None and sidecar.kind is Category.SIMULATED:
            left_out["challenge parts"] += 1
        elif said is None and sidecar.verdict.decision is Decision.NO_VERDICT:
            left_out["without a verdict"] += 1
        else:
            records.append(_make_sample(path, sidecar, said, classes))
    if missing:
        some = ", ".join(list(missing)[:_MAX_NAMES])
        raise DataError(
            f"{len(missing)} corrections are of frames that are not here: {some}", where=str(root)
        )
    bare = sum(record.is_defective and record.mask is None for record in records)
    bad = sum(record.is_defective for record in records)
    notes = [f"{count} frames are left out: {why}" for why, count in left_out.items()]
    notes.append(f"labels are the line's own verdicts, but for {len(corrections)} corrections")
    if 0 < bare < bad:
        notes.append(f"{bare} of {bad} defective frames have no mask, so none is used")
    return Dataset(
        root,
        "archive",
        classes,
        tuple(sorted(records, key=lambda r: natural_key(Path(r.name)))),
        has_masks=bad > 0 and not bare,
        notes=tuple(notes),
    )


def _make_sample(
    path: Path, sidecar: Sidecar, correction: Correction | None, classes: tuple[str, ...]
) -> Sample:
    verdict, picture = sidecar.verdict, sidecar.picture
    defective = verdict.decision is Decision.REJECT
    ids = tuple(
        sorted({classes.index(region.class_name) + 1 for region in verdict.regions if region.fatal})
    )
    mask: Mask | None = ArchivedMask(sidecar.mask) if sidecar.mask is not None else None
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
        picture.file,
        path.with_name(picture.file),
        defective,
        alone if defective else GOOD,
        verdict.part_id or picture.file,
        None,
        mask,
        ids,
    )


def _class_names(
    frames: Iterable[tuple[Path, Sidecar]], corrections: Mapping[str, Correction], root: Path
) -> tuple[str, ...]:
    """Names of classes 1..K, by the ids that the line's segmenter gives them."""
    names: dict[int, str] = {}
    top = 0
    for _path, sidecar in frames:
        for region in sidecar.verdict.regions:
            if names.setdefault(region.class_id, region.class_name) != region.class_name:
                raise DataError(
                    f"class {region.class_id} is {names[region.class_id]} in one verdict and "
                    f"{region.class_name} in another",
                    where=str(root),
                    remedy="Export the time of one model: --since, --until",
                )
        if sidecar.mask is not None:
            top = max([top, *sidecar.mask.runs])
    top = max([top, *names])
    found = [names.get(i, f"class_{i}") for i in range(1, top + 1)]
    said = {each.label for each in corrections.values()} - {GOOD, DROP}
    found += sorted(said - set(found))
    return tuple(found) or ("defect",)
