"""The contact sheet of a selection: each image with its rank, its reason and its findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, ModelError, OutputError
from edgeinspect.imaging import to_channels, upsample_class_map
from edgeinspect.learning.datasets.contact_sheet import (
    BACKGROUND_COLOR,
    DIM_COLOR,
    TEXT_COLOR,
    Color,
)
from edgeinspect.learning.evaluate import OfflineInspector
from edgeinspect.learning.reporting import overlay_class_map, to_display_size
from edgeinspect.learning.select.candidates import CandidateSet, to_frame
from edgeinspect.learning.select.select_images import (
    DISAGREE,
    UNCERTAIN,
    UNLIKE,
    SelectedImage,
    Selection,
)
from edgeinspect.system import write_atomic

_WIDTH = 1800
_MARGIN, _GAP = 24, 12
_LINE_PX = 19
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_COLORS: dict[str, Color] = {
    UNCERTAIN: (90, 200, 250),
    UNLIKE: (250, 190, 110),
    DISAGREE: (170, 130, 255),
}
_MAX_HEIGHT_PX = 30_000


def write_selection_sheet(
    path: Path,
    selection: Selection,
    candidates: CandidateSet,
    inspectors: Sequence[OfflineInspector],
) -> None:
    """Draw the selected images in their order and write them as PNG.

    The regions of a segmenter or a good-parts model are outlined. Contrast is raised for display.

    Raises:
        OutputError: The file cannot be written.
    """
    image = draw_selection_sheet(selection, candidates, inspectors)
    _done, data = cv2.imencode(".png", image)
    try:
        write_atomic(path, data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def draw_selection_sheet(
    selection: Selection, candidates: CandidateSet, inspectors: Sequence[OfflineInspector]
) -> NDArray[np.uint8]:
    """Return the sheet, uint8 (h, 1800, 3)."""
    with_map = [one for one in inspectors if one.mapper is not None]
    with_map.sort(key=lambda one: one.segmenter is None)  # a segmenter's classes say more
    mapper = with_map[0] if with_map else None
    drawn = [_draw_image(one, candidates, mapper) for one in selection.selected]
    ratios = [image.shape[1] / image.shape[0] for image in drawn] or [1.0]
    width = _cell_width(float(np.median(ratios)))
    height = int(np.clip(width / float(np.median(ratios)), 90, 420))
    captions = [_caption(rank, one) for rank, one in enumerate(selection.selected, 1)]
    lines = max((len(caption) for caption in captions), default=0)
    parts = [_header(selection, candidates)]
    per_row = (_WIDTH - 2 * _MARGIN + _GAP) // (width + _GAP)
    cells = [
        _cell(image, caption, one.criterion, (height, width), lines)
        for image, caption, one in zip(drawn, captions, selection.selected, strict=True)
    ]
    for start in range(0, len(cells), per_row):
        parts.append(_row(cells[start : start + per_row], width))
    return np.concatenate(parts)[:_MAX_HEIGHT_PX]


def _draw_image(
    one: SelectedImage, candidates: CandidateSet, mapper: OfflineInspector | None
) -> NDArray[np.uint8]:
    """Return an image for display, with the outlines of the regions of a model with a map."""
    try:
        pixels = candidates.read(one.image)
    except DataError:  # changed since it was selected
        return np.full((100, 100, 3), (45, 42, 60), np.uint8)
    plain = to_display_size(pixels, min(pixels.shape[1], 560))
    if mapper is None:
        return plain
    frame = to_frame(pixels, mapper.spec)
    try:
        inspection = mapper.inspect(frame)
    except ModelError:  # its score is no number, which may be why the image was selected
        return plain
    assert inspection.class_map is not None
    mask = upsample_class_map(inspection.class_map, mapper.stride, *frame.shape[:2])
    shown = frame[..., ::-1] if mapper.spec.color == "rgb" else frame
    return overlay_class_map(np.ascontiguousarray(shown), mask, min(frame.shape[1], 560))


def _cell_width(ratio: float) -> int:
    ideal = int(np.clip((60_000 * ratio) ** 0.5, 210, 570))
    room = _WIDTH - 2 * _MARGIN + _GAP
    return room // (room // (ideal + _GAP)) - _GAP


def _caption(rank: int, one: SelectedImage) -> list[str]:
    return [f"{rank}  {one.criterion}", one.image.name, one.reason, *_opinions(one)]


def _opinions(one: SelectedImage) -> list[str]:
    return [words for words in dict.fromkeys(one.opinions) if words != one.reason]


def _cell(
    image: NDArray[np.uint8],
    caption: Sequence[str],
    criterion: str,
    size: tuple[int, int],
    lines: int,
) -> NDArray[np.uint8]:
    height, width = size
    out = np.full((height + lines * _LINE_PX + 10, width, 3), BACKGROUND_COLOR, np.uint8)
    scale = min(height / image.shape[0], width / image.shape[1])
    tall, wide = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(to_channels(image, 3), (wide, tall), interpolation=cv2.INTER_AREA)
    top, left = (height - tall) // 2, (width - wide) // 2
    out[top : top + tall, left : left + wide] = small
    for number, text in enumerate(caption):
        color = _COLORS[criterion] if number == 0 else TEXT_COLOR if number == 1 else DIM_COLOR
        at = (2, height + (number + 1) * _LINE_PX - 4)
        cv2.putText(out, _fit_text(text, width, 0.43), at, _FONT, 0.43, color, 1, cv2.LINE_AA)
    return out


def _row(cells: Sequence[NDArray[np.uint8]], width: int) -> NDArray[np.uint8]:
    height = cells[0].shape[0]
    out = np.full((height + _GAP, _WIDTH, 3), BACKGROUND_COLOR, np.uint8)
    for index, cell in enumerate(cells):
        x = _MARGIN + index * (width + _GAP)
        out[:height, x : x + width] = cell
    return out


def _header(selection: Selection, candidates: CandidateSet) -> NDArray[np.uint8]:
    out = np.full((96, _WIDTH, 3), BACKGROUND_COLOR, np.uint8)
    title = f"{number_of(len(selection.selected), 'image')} to label, of {selection.considered}"
    cv2.putText(out, title, (_MARGIN, 42), _FONT, 1.0, TEXT_COLOR, 2, cv2.LINE_AA)
    line = f"{candidates.where}; unlike: by {selection.described_by}"
    line = _fit_text(line, _WIDTH - 2 * _MARGIN, 0.5)
    cv2.putText(out, line, (_MARGIN, 74), _FONT, 0.5, DIM_COLOR, 1, cv2.LINE_AA)
    return out


def _fit_text(text: str, width: int, scale: float) -> str:
    """Return ASCII text (OpenCV's fonts have no other), shortened in the middle until it fits."""
    text = text.encode("ascii", "replace").decode()
    keep = len(text)
    shown = text
    while keep > 6 and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > width - 4:
        keep -= 1
        shown = text[: keep // 2] + ".." + text[len(text) - (keep - keep // 2 - 2) :]
    return shown
