"""A labelled set out of an archive: what the line said, what a person says, masks drawn anew."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import ModelKind
from edgeinspect.errors import DataError, ModelError
from edgeinspect.imaging import COLOR_AS_STORED, ReadSettings, read_image, upsample_class_map
from edgeinspect.imaging.letterbox import letterbox
from edgeinspect.learning.datasets import (
    LABELS_FILE,
    ClassMap,
    Correction,
    Dataset,
    Sample,
    archive_dataset,
    write_dataset,
)
from edgeinspect.learning.evaluate import class_id_table
from edgeinspect.ports import Engine
from edgeinspect.services.archiver.files import write_atomically
from edgeinspect.storage.archive import (
    FrameQuery,
    Sidecar,
    find_frames,
    frame_name,
    is_complete,
    read_sidecar,
)
from edgeinspect.system import TableWriter

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export has written."""

    image_count: int
    defective_count: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """A mask that a segmenter draws when it is asked for; nothing is kept."""

    path: Path
    predict: Callable[[Path], ClassMap]

    def read(self, height_px: int, width_px: int) -> ClassMap:
        mask = self.predict(self.path)
        if mask.shape != (height_px, width_px):
            raise DataError(
                f"is {height_px} x {width_px} px, the segmenter takes "
                f"{mask.shape[0]} x {mask.shape[1]}",
                where=str(self.path),
            )
        return mask


def export_dataset(
    root: Path,
    out: Path,
    layout: str,
    query: FrameQuery,
    corrections: Mapping[str, Correction],
    segmenter: Engine | None = None,
    progress: Progress = lambda done: None,
) -> ExportSummary:
    """Write the frames that are wanted and have a label.

    Args:
        root: The archive, which may be running.
        out: Folder that is not there, or empty.
        layout: `mask-folder` or `severstal`.
        wanted: Which frames.
        corrections: By frame; those of frames that are not wanted are passed over.
        segmenter: Draws masks of rejects that have none.
        progress: Called with the number of pictures done.

    Raises:
        DataError: Nothing is left to write, or a picture cannot be read.
        ModelError: The segmenter finds other classes than the line's.
        StorageError: `out` is not empty, or cannot be written.
    """
    frames = list(_select_frames(root, query))
    names = {frame_name(told.verdict) for _path, told in frames}
    said = {name: each for name, each in corrections.items() if name in names}
    data = archive_dataset(root, frames, said)
    if segmenter is not None:
        data = _with_predicted_masks(data, segmenter)
    kept, bare = [], 0
    for record in data.samples:
        if record.is_defective and not _has_mask(record):
            bare += 1
        else:
            kept.append(record)
    bad = sum(record.is_defective for record in kept)
    if not bad:
        raise DataError(
            f"{bare} defective frames have no mask, and none has one"
            if bare
            else "no defective frame is among them",
            where=str(root),
            remedy="Give --segmenter to draw masks, or publish.mask on the line, or other filters",
        )
    notes = [note for note in data.notes if "so none is used" not in note]
    if bare:
        notes.append(f"{bare} rejects are left out: no mask is known or drawn")
    data = replace(data, samples=tuple(kept), has_masks=True)
    write_dataset(data, out, layout, progress)
    write_atomically(out / LABELS_FILE, _labels_csv(frames, said, {record.name for record in kept}))
    return ExportSummary(len(kept), bad, data.classes, tuple(notes))


def _select_frames(root: Path, wanted: FrameQuery) -> list[tuple[Path, Sidecar]]:
    found = []
    for row in find_frames(root, wanted):
        path = root / row.path
        try:
            told = read_sidecar(path)
        except DataError:
            if path.exists():
                raise
            continue  # a running archive has removed it
        if is_complete(path, told, check_hash=True):
            found.append((path, told))
    return found


def _has_mask(record: Sample) -> bool:
    if record.mask is None:
        return False
    picture = read_image(
        record.path, ReadSettings(COLOR_AS_STORED, 8, flat_end=True)
    )  # as the archive writes them
    return bool(record.read_mask(*picture.shape[:2]).any())


def _with_predicted_masks(data: Dataset, engine: Engine) -> Dataset:
    spec = engine.spec
    if spec.kind is not ModelKind.SEGMENTER:
        raise ModelError(f"{spec.id} is no segmenter", remedy="Name one with --segmenter")
    classes = data.classes if data.classes != ("defect",) else spec.classes
    table = class_id_table(spec.classes, classes, where=str(spec.id))

    def draw(path: Path) -> ClassMap:
        picture = read_image(path, ReadSettings(spec.color, 8, flat_end=True))
        if picture.shape != spec.shape.dims:
            picture = letterbox(picture, spec.shape.height_px, spec.shape.width_px)[0]
        found = engine.infer(np.ascontiguousarray(picture.reshape(spec.shape.dims)))
        cells = table[np.asarray(found[0][0], np.uint8)]
        return upsample_class_map(
            cells, spec.output_stride, spec.shape.height_px, spec.shape.width_px
        )

    records = [
        replace(record, mask=PredictedMask(record.path, draw))
        if record.is_defective and record.mask is None
        else record
        for record in data.samples
    ]
    return replace(data, classes=classes, samples=tuple(records))


def _labels_csv(
    frames: list[tuple[Path, Sidecar]], said: Mapping[str, Correction], written: set[str]
) -> bytes:
    """A table to look through and to correct: `label` is a person's, the rest the line's."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["frame", "label", "mask", "line_says", "classes", "defect_prob", "kind", "used"])
    for _path, told in frames:
        verdict = told.verdict
        name = frame_name(verdict)
        correction = said.get(name)
        classes = sorted({region.class_name for region in verdict.regions if region.fatal})
        rows.writerow(
            [
                name,
                correction.label if correction else "",
                str(correction.mask.absolute()) if correction and correction.mask else "",
                verdict.decision.value,
                " ".join(classes),
                "" if verdict.defect_prob is None else f"{verdict.defect_prob:.5f}",
                told.kind.value,
                "yes" if told.picture.file in written else "no",
            ]
        )
    return text.getvalue().encode()
