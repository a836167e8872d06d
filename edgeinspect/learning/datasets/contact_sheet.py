"""The contact sheet: an overview image of a data set, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError, OutputError
from edgeinspect.imaging import class_color_bgr, letterbox_image, read_image, to_channels
from edgeinspect.learning.datasets.dataset import VOID
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.learning.datasets.scan import DatasetScan, ScannedImage

Color = tuple[int, int, int]

BACKGROUND_COLOR: Color = (30, 27, 25)
TEXT_COLOR: Color = (235, 235, 235)
DIM_COLOR: Color = (160, 155, 150)
PROBLEM_COLOR: Color = (80, 80, 255)

_WIDTH = 1800
_MARGIN = 24
_GAP = 12
_CELL_AREA = 40_000
_CAPTION = 40
_HEADING = 40
_MAX_ROWS = 2
_MAX_PAIRS = 8
_SMALL_PX = 14
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading with its images."""

    title: str
    color: Color
    images: tuple[ScannedImage, ...]
    step: int = 1
    """Images that stay side by side."""


def write_contact_sheet(path: Path, scan: DatasetScan) -> None:
    """Draw the contact sheet and write it as PNG.

    A section per class from its largest to its smallest defects, masks outlined in the class's
    colour and tiny defects boxed; then good images, unusable images, and duplicates across
    splits, pair by pair.

    Raises:
        OutputError: The file cannot be written.
    """
    done, data = cv2.imencode(".png", draw_contact_sheet(scan))
    if not done:
        raise DataError("cannot be encoded", where=str(path))
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from error


def draw_contact_sheet(scan: DatasetScan) -> NDArray[np.uint8]:
    """Return the sheet, uint8 (h, w, 3), BGR."""
    height, width = _cell_size(scan)
    columns = max(1, (_WIDTH - 2 * _MARGIN + _GAP) // (width + _GAP))
    parts = [_header(scan)]
    for section in _sections(scan, columns):
        parts.append(_text_line(section.title, section.color, _HEADING, 0.65))
        images = list(
            map_in_threads(lambda seen: _image_cell(scan, seen, height, width), section.images)
        )
        in_row = max(section.step, columns - columns % section.step)
        for start in range(0, len(images), in_row):
            parts.append(_image_row(images[start : start + in_row], height + _CAPTION, width))
    parts.append(_text_line("", TEXT_COLOR, _MARGIN, 0.5))
    return np.concatenate(parts)


# -- sections -----------------------------------------------------------------------------


def _sections(scan: DatasetScan, columns: int) -> list[_Section]:
    sections = []
    usable = [image for image in scan.images if image.class_px]
    pixels = sum(sum(image.class_px) for image in usable) or 1

    def add(title: str, color: Color, images: Sequence[ScannedImage], rows: int = 1) -> None:
        if images:
            sections.append(_Section(title, color, _evenly_spaced(images, rows * columns)))

    for class_id, name in enumerate(scan.data.classes, 1):
        of = [i for i in usable if class_id in i.sample.class_ids or i.class_px[class_id]]
        of.sort(key=lambda image: -image.class_px[class_id] / sum(image.class_px))
        area = sum(image.class_px[class_id] for image in of)
        share = f", {100 * area / pixels:.2g} % of all pixels" if scan.data.has_masks else ""
        add(
            f"{name}: {number_of(len(of), 'image')}{share}",
            class_color_bgr(class_id),
            of,
            _MAX_ROWS,
        )
    good = [i for i in usable if not i.sample.is_defective and not i.defect_px]
    add(f"good: {number_of(len(good), 'image')}", TEXT_COLOR, good)
    if scan.data.has_masks:
        unmarked = [i for i in usable if i.sample.is_defective and not i.defect_px]
        add(f"defective, but no defect pixel: {len(unmarked)}", PROBLEM_COLOR, unmarked)
    add(f"cannot be used: {len(scan.broken)}", PROBLEM_COLOR, scan.broken)
    if pairs := _leaked_pairs(scan):
        title = f"the same image in two splits: {len(scan.leaks())} pairs"
        sections.append(_Section(title, PROBLEM_COLOR, pairs, step=2))
    return sections


def _leaked_pairs(scan: DatasetScan) -> tuple[ScannedImage, ...]:
    """Return duplicates across splits, the highest correlation first, no image twice."""
    chosen: dict[int, ScannedImage] = {}
    for pair in sorted(scan.leaks(), key=lambda pair: -pair.correlation):
        if not {pair.first, pair.second} & chosen.keys():
            chosen |= {index: scan.images[index] for index in (pair.first, pair.second)}
        if len(chosen) >= 2 * _MAX_PAIRS:
            break
    return tuple(chosen.values())


def _evenly_spaced(images: Sequence[ScannedImage], count: int) -> tuple[ScannedImage, ...]:
    """Return evenly spaced items of a list, including both ends."""
    if len(images) <= count:
        return tuple(images)
    return tuple(images[index] for index in np.linspace(0, len(images) - 1, count).astype(int))


def _cell_size(scan: DatasetScan) -> tuple[int, int]:
    """Return height and width of a cell: the median proportions, a fixed area."""
    sizes = [seen.size for seen in scan.images if seen.size]
    ratio = float(np.median([width / height for height, width in sizes])) if sizes else 1.0
    ideal_width = int(np.clip((_CELL_AREA * ratio) ** 0.5, 160, 570))
    room = _WIDTH - 2 * _MARGIN + _GAP
    width = room // (room // (ideal_width + _GAP)) - _GAP  # no empty margin at the right
    return int(np.clip(width / ratio, 70, 380)), width


# -- drawing ------------------------------------------------------------------------------


def _header(scan: DatasetScan) -> NDArray[np.uint8]:
    data = scan.data
    sizes = scan.sizes
    size = f"{sizes[0][0][0]} x {sizes[0][0][1]} px" if sizes else "no readable image"
    more = f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else ""
    title = _text_line(data.root.resolve().name, TEXT_COLOR, 56, 1.1)
    line = f"{number_of(len(data), 'image')}, layout {data.layout}, {size}{more}"
    if data.bit_depth > 8:
        line += f", {data.bit_depth} bits"
    legend = _text_line("", TEXT_COLOR, 34, 0.5)
    x = _MARGIN
    for class_id, name in enumerate(data.classes, 1):
        text = _to_ascii(name)
        wide = cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]
        if x + wide + 30 > _WIDTH - _MARGIN:
            break
        cv2.rectangle(legend, (x, 10), (x + 16, 24), class_color_bgr(class_id), -1)
        _put_text(legend, text, (x + 24, 22), TEXT_COLOR, 0.5)
        x += wide + 52
    return np.concatenate([title, _text_line(line, DIM_COLOR, 30, 0.55), legend])


def _text_line(text: str, color: Color, height: int, scale: float) -> NDArray[np.uint8]:
    """Return a line of text over the full width."""
    out = np.full((height, _WIDTH, 3), BACKGROUND_COLOR, np.uint8)
    _put_text(out, _to_ascii(text), (_MARGIN, height - 10), color, scale)
    return out


def _image_row(cells: Sequence[NDArray[np.uint8]], height: int, width: int) -> NDArray[np.uint8]:
    out = np.full((height + _GAP, _WIDTH, 3), BACKGROUND_COLOR, np.uint8)
    for index, cell in enumerate(cells):
        x = _MARGIN + index * (width + _GAP)
        out[:height, x : x + width] = cell
    return out


def _image_cell(
    scan: DatasetScan, image: ScannedImage, height: int, width: int
) -> NDArray[np.uint8]:
    """Return one image with its outlines; its name, size and split below."""
    out = np.full((height + _CAPTION, width, 3), BACKGROUND_COLOR, np.uint8)
    sample = image.sample
    out[:height] = _placeholder(image, height, width)
    if image.size is not None:
        try:
            pixels = read_image(sample.path, scan.data.read_settings())
            frame, scale, left, top = letterbox_image(to_channels(pixels, 3), height, width)
            if not image.problem:
                mask = sample.read_mask(*image.size)
                _draw_outlines(frame, mask, scale, left, top)
            out[:height] = frame
        except DataError:  # changed since the scan
            pass
    _put_text(out, _shorten_text(sample.name, width, 0.42), (2, height + 16), TEXT_COLOR, 0.42)
    size = f"{image.size[0]} x {image.size[1]}" if image.size else ""
    area = f"defect {image.defect_px} px" if image.defect_px else ""
    words = "  ".join(word for word in (size, area, sample.split or "") if word)
    color = PROBLEM_COLOR if image.problem else DIM_COLOR
    _put_text(
        out, _shorten_text(image.problem or words, width, 0.38), (2, height + 33), color, 0.38
    )
    return out


def _placeholder(image: ScannedImage, height: int, width: int) -> NDArray[np.uint8]:
    out = np.full((height, width, 3), (45, 42, 60), np.uint8)
    if image.size is None:
        cv2.line(out, (0, 0), (width, height), PROBLEM_COLOR, 1, cv2.LINE_AA)
        cv2.line(out, (0, height), (width, 0), PROBLEM_COLOR, 1, cv2.LINE_AA)
    return out


def _draw_outlines(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8], scale: float, left: int, top: int
) -> None:
    """Draw class outlines outside the defects, so that these stay visible; box tiny ones."""
    kernel = np.ones((3, 3), np.uint8)
    height = max(1, round(mask.shape[0] * scale))
    width = max(1, round(mask.shape[1] * scale))
    for class_id in np.unique(mask[(mask > 0) & (mask != VOID)]).tolist():
        whole = (mask == class_id).astype(np.float32)
        small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        placed = np.zeros(frame.shape[:2], np.uint8)
        target = placed[top : top + height, left : left + width]
        target[:] = (small > 1e-6)[: target.shape[0], : target.shape[1]]
        ring = cv2.dilate(placed, kernel, iterations=2) - cv2.dilate(placed, kernel)
        frame[ring > 0] = class_color_bgr(class_id)
        count, _labels, boxes, _centres = cv2.connectedComponentsWithStats(placed)
        for x, y, wide, tall, _area in boxes[1:count].tolist():
            if max(wide, tall) < _SMALL_PX:
                pad = _SMALL_PX // 2
                cv2.rectangle(
                    frame,
                    (x - pad, y - pad),
                    (x + wide + pad, y + tall + pad),
                    class_color_bgr(class_id),
                    1,
                )


def _put_text(
    out: NDArray[np.uint8], text: str, at: tuple[int, int], color: Color, scale: float
) -> None:
    cv2.putText(out, text, at, _FONT, scale, color, 2 if scale > 1 else 1, cv2.LINE_AA)


def _to_ascii(text: str) -> str:
    """Return ASCII text: OpenCV's fonts have no other characters."""
    return text.encode("ascii", "replace").decode()


def _shorten_text(text: str, width: int, scale: float) -> str:
    """Return text shortened in the middle until it fits: file names differ most at their end."""
    text = _to_ascii(text)
    keep = len(text)
    while keep > 4 and cv2.getTextSize(text, _FONT, scale, 1)[0][0] > width - 4:
        keep -= 1
        text = _to_ascii(text[: keep // 3].rstrip(".") + ".." + text[-(keep - keep // 3 - 2) :])
    return text
