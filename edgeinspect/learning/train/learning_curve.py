"""The curve of a training as an image: loss down, validation score up."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.system import read_text

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 320, 56, 28
_LOSS, _SCORE = "#b5651d", "#1f5fa8"
_SMOOTHING = 0.8
"""Share of the old value in the drawn loss; single batches jump."""


def draw_learning_curve(folder: Path) -> Path:
    """Draw `curve.csv` of a run folder as `curve.svg`; returns its path."""
    rows = list(csv.DictReader(io.StringIO(read_text(folder / "curve.csv"), newline="")))
    losses = [(int(row["step"]), float(row["loss"])) for row in rows]
    scores = [
        (int(row["step"]), float(row["validation_score"]))
        for row in rows
        if row["validation_score"]
    ]
    smooth: list[tuple[int, float]] = []
    for step, loss in losses:
        before = smooth[-1][1] if smooth else loss
        smooth.append((step, _SMOOTHING * before + (1 - _SMOOTHING) * loss))
    last = max(1, losses[-1][0] if losses else 1)
    top_loss = max((value for _step, value in smooth), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        *_draw_grid(last, top_loss),
        _draw_line([(s / last, v / top_loss) for s, v in smooth], _LOSS),
        _draw_line([(s / last, v) for s, v in scores], _SCORE),
    ]
    if scores:
        step, value = max(scores, key=lambda pair: pair[1])
        x, y = _to_pixels(step / last, value)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_SCORE}"/>')
        parts.append(
            f'<text x="{_LEFT + 160}" y="18" fill="{_SCORE}">validation score, '
            f"best {value:.4f} at step {step}</text>"
        )
    parts.append(f'<text x="{_LEFT}" y="18" fill="{_LOSS}">training loss</text>')
    parts.append("</svg>")
    path = folder / "curve.svg"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def _to_pixels(x: float, y: float) -> tuple[float, float]:
    wide, tall = _WIDTH - 2 * _LEFT, _HEIGHT - _TOP - 40
    return _LEFT + x * wide, _TOP + (1 - y) * tall


def _draw_line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_to_pixels(*point) for point in points))
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _draw_grid(last: int, top_loss: float) -> list[str]:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x0, y = _to_pixels(0, share)
        x1, _ = _to_pixels(1, share)
        x, bottom = _to_pixels(share, 0)
        parts += [
            f'<line x1="{x0}" y1="{y:.1f}" x2="{x1}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" fill="{_LOSS}">'
            f"{share * top_loss:.2f}</text>",
            f'<text x="{x1 + 6}" y="{y + 4:.1f}" fill="{_SCORE}">{share:.2f}</text>',
            f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">'
            f"{round(share * last)}</text>",
        ]
    x, bottom = _to_pixels(0.5, 0)
    parts.append(f'<text x="{x}" y="{bottom + 34:.1f}" text-anchor="middle">step</text>')
    return parts
