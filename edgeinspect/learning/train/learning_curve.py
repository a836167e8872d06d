"""The learning curve of a training as SVG: loss and validation score by step."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from edgeinspect.learning.reporting import AMBER, BLUE, Axis, Plot, side_by_side
from edgeinspect.system import read_text

_SMOOTHING = 0.8
"""Weight of the previous value in the plotted loss; losses of single batches are noisy."""


def draw_learning_curve(run_folder: Path) -> Path:
    """Plot `curve.csv` of a run folder as `curve.svg`, and return its path."""
    text = read_text(run_folder / "curve.csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    losses: list[tuple[float, float]] = []
    for row in rows:
        if not row["loss"]:  # of frozen features, before the first step
            continue
        loss = float(row["loss"])
        before = losses[-1][1] if losses else loss
        losses.append((int(row["step"]), _SMOOTHING * before + (1 - _SMOOTHING) * loss))
    scores = [
        (float(row["step"]), float(row["validation_score"]))
        for row in rows
        if row["validation_score"]
    ]
    last_step = max(1.0, losses[-1][0] if losses else 1.0)
    top_loss = max((loss for _step, loss in losses), default=1.0) or 1.0
    loss_plot = Plot("Training loss", Axis("step", 0, last_step), Axis("loss", 0, top_loss))
    loss_plot.line(losses, AMBER, "training loss, smoothed")
    score_plot = Plot("Validation score", Axis("step", 0, last_step), Axis("score", 0, 1))
    if scores:
        step, best = max(scores, key=lambda point: point[1])
        score_plot.line(scores, BLUE, f"validation score, best {best:.4f} at step {step:.0f}")
        score_plot.errorbar([(step, best, best, best)], BLUE)
    path = run_folder / "curve.svg"
    path.write_text(side_by_side((loss_plot, score_plot)), encoding="utf-8")
    return path
