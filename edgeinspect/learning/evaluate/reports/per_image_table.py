"""A table with one row for each image of an evaluation, for a spreadsheet or a script."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.kinds import GOOD, predicted_kind
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.system import TableWriter


def per_image_csv(inspector: OfflineInspector, results: Iterable[FrameResult]) -> str:
    """Return the table as CSV; no cell is read as a formula.

    Columns: `image`, `split`, `truth` (`good` or `defective`), `true_classes` (by `;`), `verdict`,
    `reason`, `reject_class`, `reject_code`; then, of the models that there are, `defect_prob`,
    `class_prob.KIND` and `predicted_class`, `unknown_prob`, `class_score.CLASS` and
    `largest_region_px.CLASS`.
    """
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(
        [
            "image",
            "split",
            "truth",
            "true_classes",
            "verdict",
            "reason",
            "reject_class",
            "reject_code",
            *_score_names(inspector),
        ]
    )
    for one in results:
        rows.writerow(
            [
                one.name,
                one.split,
                "defective" if one.is_defective else GOOD,
                ";".join(one.true_classes),
                "REJECT" if one.is_rejected else "PASS",
                one.reason,
                ";".join(one.reject_classes),
                one.reject_code or "",
                *_score_values(inspector, one),
            ]
        )
    return text.getvalue()


def _score_names(inspector: OfflineInspector) -> list[str]:
    names = ["defect_prob"] if inspector.gate is not None else []
    if inspector.kinds:
        names += [f"class_prob.{kind}" for kind in inspector.kinds] + ["predicted_class"]
    if inspector.unknown is not None:
        names.append("unknown_prob")
    for column in ("class_score", "largest_region_px"):
        names += [f"{column}.{name}" for name in inspector.classes]
    return names


def _score_values(inspector: OfflineInspector, one: FrameResult) -> Iterator[str]:
    if inspector.gate is not None:
        yield _number(one.prob)
    if inspector.kinds:
        yield from map(_number, one.kind_probs)
        assert inspector.gate is not None
        predicted = predicted_kind(one, inspector.gate.spec.decides)
        yield (GOOD, *inspector.kinds)[predicted]
    if inspector.unknown is not None:
        yield _number(one.unknown_prob)
    for values in (one.class_scores, one.largest_region_px):
        if values is not None:
            yield from map(_number, values.tolist())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.7g}"
