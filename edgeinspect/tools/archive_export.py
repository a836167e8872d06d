"""Export of an archive as a labelled data set: verdicts, corrections, predicted masks."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import ModelKind
from edgeinspect.errors import DataError, ModelError
from edgeinspect.imaging import (
    COLOR_AS_STORED,
    ReadSettings,
    letterbox_image,
    read_image,
    upsample_class_map,
)
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
from edgeinspect.storage.archive import (
    FrameQuery,
    Sidecar,
    find_frames,
    frame_name,
    is_complete,
    read_sidecar,
)
from edgeinspect.system import (
    TableWriter,
    write_atomic,
)

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """Result of an export."""

    image_count: int
    defective_count: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PredictedMask:
    """A mask that a segmenter predicts each time it is read."""

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
    """Write the selected frames that have a label.

    Args:
        root: The archive, which may be running.
        out: A new or empty folder.
        layout: `mask-folder` or `severstal`.
        query: Which frames.
        corrections: By frame; those of other frames are ignored.
        segmenter: Predicts masks of rejects that have none.
        progress: Called with the number of images done.

    Raises:
        DataError: There is nothing to write, or an image cannot be read.
        ModelError: The segmenter's classes differ from the line's.
        OutputError: `out` is not empty, or cannot be written.
    """
    frames = list(_select_frames(root, query))
    frame_names = {frame_name(sidecar.verdict) for _path, sidecar in frames}
    selected_corrections = {name: each for name, each in corrections.items() if name in frame_names}
    data = archive_dataset(root, frames, selected_corrections)
    if segmenter is not None:
        data = _with_predicted_masks(data, segmenter)
    kept, without_mask = [], 0
    for record in data.samples:
        if record.is_defective and not _has_mask(record):
            without_mask += 1
        else:
            kept.append(record)
    defective_count = sum(record.is_defective for record in kept)
    if not defective_count:
        raise DataError(
            f"{without_mask} defective frames have no mask, and none has one"
            if without_mask
            else "no defective frame is among them",
            where=str(root),
            remedy="Give --segmenter to predict masks, set publish.mask on the line, or change the "
            "filters",
        )
    notes = [note for note in data.notes if "so none is used" not in note]
    if without_mask:
        are = "reject is" if without_mask == 1 else "rejects are"
        notes.append(f"{without_mask} {are} skipped for want of a mask")
    data = replace(data, samples=tuple(kept), has_masks=True)
    write_dataset(data, out, layout, progress)
    write_atomic(
        out / LABELS_FILE,
        _labels_csv(frames, selected_corrections, {record.name for record in kept}),
    )
    return ExportSummary(len(kept), defective_count, data.classes, tuple(notes))


def _select_frames(root: Path, wanted: FrameQuery) -> list[tuple[Path, Sidecar]]:
    frames_found = []
    for row in find_frames(root, wanted):
        path = root / row.path
        try:
            sidecar = read_sidecar(path)
        except DataError:
            if path.exists():
                raise
            continue  # removed by the running archive
        if is_complete(path, sidecar, check_hash=True):
            frames_found.append((path, sidecar))
    return frames_found


def _has_mask(record: Sample) -> bool:
    if record.mask is None:
        return False
    image = read_image(
        record.path, ReadSettings(COLOR_AS_STORED, 8, flat_end=True)
    )  # the archive writes 8 bits
    return bool(record.read_mask(*image.shape[:2]).any())


def _with_predicted_masks(data: Dataset, engine: Engine) -> Dataset:
    spec = engine.spec
    if spec.kind is not ModelKind.SEGMENTER:
        raise ModelError(f"{spec.id} is not a segmenter", remedy="Name one with --segmenter")
    classes = data.classes if data.classes != ("defect",) else spec.classes
    table = class_id_table(spec.classes, classes, where=str(spec.id))

    def draw(path: Path) -> ClassMap:
        image = read_image(path, ReadSettings(spec.color, 8, flat_end=True))
        if image.shape != spec.shape.dims:
            image = letterbox_image(image, spec.shape.height_px, spec.shape.width_px)[0]
        outputs = engine.infer(np.ascontiguousarray(image.reshape(spec.shape.dims)))
        cells = table[np.asarray(outputs[0][0], np.uint8)]
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
    frames: list[tuple[Path, Sidecar]],
    selected_corrections: Mapping[str, Correction],
    written: set[str],
) -> bytes:
    """Return a table to review and correct: `label` is for a person, the rest is the line's."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["frame", "label", "mask", "line_says", "classes", "defect_prob", "kind", "used"])
    for _path, sidecar in frames:
        verdict = sidecar.verdict
        name = frame_name(verdict)
        correction = selected_corrections.get(name)
        classes = verdict.reject_classes
        rows.writerow(
            [
                name,
                correction.label if correction else "",
                str(correction.mask.absolute()) if correction and correction.mask else "",
                verdict.decision.value,
                " ".join(classes),
                "" if verdict.defect_prob is None else f"{verdict.defect_prob:.5f}",
                sidecar.kind.value,
                "yes" if sidecar.picture.file in written else "no",
            ]
        )
    return text.getvalue().encode()
