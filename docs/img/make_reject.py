"""Draw docs/img/reject.png: one rejected frame, as the camera and as the line saw it.

The frame is synthetic strip that the shipped models were not trained on; map, regions and
decision are the shipped models' and the line's own. Run from the checkout:

    python docs/img/make_reject.py
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from edgeinspect.backends import ov  # noqa: E402
from edgeinspect.config import load_config  # noqa: E402
from edgeinspect.domain import Assessment, Region, SystemClock  # noqa: E402
from edgeinspect.imaging import find_blobs, render_strip  # noqa: E402
from edgeinspect.pipeline.inspection import decide_by_regions, decision_rules  # noqa: E402
from edgeinspect.storage.model_store import ModelStore  # noqa: E402

SEED, INDEX = 2026, 48
COLORS = {  # BGR; told apart by people who see no red from green, too
    "pit": (255, 200, 60),
    "inclusion": (200, 90, 230),
    "scratch": (60, 200, 255),
    "patch": (110, 220, 90),
}
PAPER = (250, 250, 250)
INK = (40, 40, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN = 16
STRIP = 34
"""Height of a line of text above a picture."""

Picture = NDArray[np.uint8]


def judge(image: Picture) -> tuple[float, Picture, Assessment]:
    """(the gate's probability, the class map at frame size, the assessment)."""
    store, clock = ModelStore(ROOT / "engines"), SystemClock()
    frame = np.ascontiguousarray(image)[:, :, None]
    gate = ov.build(ov.Options(model="strip-gate"), clock, store=store)
    segmenter = ov.build(ov.Options(model="strip-segmenter"), clock, store=store)
    prob = float(gate.infer(frame)[0][0])
    outputs: Any = [output[0] for output in segmenter.infer(frame)]
    rules = decision_rules(load_config(ROOT / "examples" / "strip.yaml").config, segmenter.spec)
    rules = dataclasses.replace(rules, max_regions=64)  # draw all, list or not
    assessment = decide_by_regions(prob, find_blobs(*outputs), rules)
    stride = segmenter.spec.output_stride
    whole = np.repeat(np.repeat(outputs[0], stride, 0), stride, 1)
    return prob, whole, assessment


def overlay(image: Picture, class_map: Picture, assessment: Assessment) -> Picture:
    """The frame with the map in colour, and a named box around every fatal region."""
    out: Any = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    for class_id, color in enumerate(COLORS.values(), start=1):
        mine = class_map == class_id
        out[mine] = 0.45 * out[mine] + 0.55 * np.array(color)
    fatal: dict[str, list[Region]] = {}
    for region in assessment.regions:
        if region.fatal:
            fatal.setdefault(region.class_name, []).append(region)
    taken: list[tuple[int, int, int, int]] = []
    for name, regions in fatal.items():
        boxes = [_box(out, region) for region in regions]
        area = sum(region.area_mm2 for region in regions)
        count = f"{len(regions)} x " if len(regions) > 1 else ""
        _label(out, boxes, f"{count}{name}, {area:.0f} mm2", COLORS[name], taken)
    return np.asarray(out, np.uint8)


def _box(out: Any, region: Region) -> tuple[int, int, int, int]:
    """Draw a region's box, a little larger than it; returns left, top, right, bottom."""
    box = region.box
    left, top = max(1, box.x_px - 3), max(1, box.y_px - 3)
    right = min(out.shape[1] - 2, box.x_px + box.width_px + 3)
    bottom = min(out.shape[0] - 2, box.y_px + box.height_px + 3)
    cv2.rectangle(out, (left, top), (right, bottom), COLORS[region.class_name], 2, cv2.LINE_AA)
    return left, top, right, bottom


def _label(
    out: Any,
    boxes: list[tuple[int, int, int, int]],
    text: str,
    color: tuple[int, int, int],
    taken: list[tuple[int, int, int, int]],
) -> None:
    """Name a group of boxes where nothing else is named: above, below, or left of it."""
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    bottom = max(box[3] for box in boxes)
    (wide, tall), _ = cv2.getTextSize(text, FONT, 0.6, 1)
    left = min(left, out.shape[1] - wide - 10)
    for x, y in ((left, top - 8), (left, bottom + tall + 10), (left - wide - 12, top + tall + 6)):
        spot = (x, y - tall - 6, x + wide + 8, y + 6)
        inside = spot[0] >= 0 and spot[1] >= 0 and spot[3] < out.shape[0]
        if inside and not any(_meet(spot, other) for other in taken):
            taken.append(spot)
            cv2.rectangle(out, spot[:2], spot[2:], color, cv2.FILLED)
            cv2.putText(out, text, (x + 4, y), FONT, 0.6, (20, 20, 20), 1, cv2.LINE_AA)
            return


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def compose(image: Picture, prob: float, judged: Picture, assessment: Assessment) -> Picture:
    """Both pictures on one page with a line of text above each."""
    height, width = image.shape
    page: Any = np.full((2 * (height + STRIP) + MARGIN, width, 3), PAPER, np.uint8)
    words = f"the frame: {height} x {width} px, grey"
    cv2.putText(page, words, (8, 23), FONT, 0.62, INK, 1, cv2.LINE_AA)
    page[STRIP : STRIP + height] = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    at = 2 * STRIP + height + MARGIN
    fatal = sum(region.fatal for region in assessment.regions)
    words = (
        f"{assessment.decision.value}, reject code {assessment.reject_code}, "
        f"gate {prob:.3f}, {fatal} fatal region{'s' * (fatal != 1)}"
    )
    cv2.putText(page, words, (8, at - 11), FONT, 0.62, (30, 30, 190), 1, cv2.LINE_AA)
    x = width - 4
    for name, color in reversed(COLORS.items()):
        (wide, _tall), _ = cv2.getTextSize(name, FONT, 0.55, 1)
        x -= wide
        cv2.putText(page, name, (x, at - 11), FONT, 0.55, INK, 1, cv2.LINE_AA)
        x -= 20
        cv2.rectangle(page, (x, at - 23), (x + 13, at - 10), color, cv2.FILLED)
        x -= 16
    page[at : at + height] = judged
    return np.asarray(page, np.uint8)


def main() -> None:
    """Write the picture, small enough for a README."""
    image = render_strip(SEED, INDEX).image
    prob, class_map, assessment = judge(image)
    page = compose(image, prob, overlay(image, class_map, assessment), assessment)
    small = cv2.resize(page, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    target = Path(__file__).with_name("reject.png")
    # 6 bits a channel: nobody sees it, and the file is half as large.
    cv2.imwrite(str(target), small & 0xFC, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{target.name}: {target.stat().st_size // 1000} kB, {assessment.decision.value}")


if __name__ == "__main__":
    main()
