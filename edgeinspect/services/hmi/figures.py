"""Figures of the newest frames, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeinspect.domain import StageTimes


def latency_payload(stage_times: Sequence[StageTimes], budget_us: int) -> dict[str, Any]:
    """Median, p99 and longest of the newest frames, and where the time went on average."""
    if not stage_times:
        return {"frames": 0, "budget_us": budget_us}
    totals = sorted(each.total_us for each in stage_times)
    count = len(totals)
    return {
        "frames": count,
        "budget_us": budget_us,
        "p50_us": totals[count // 2],
        "p99_us": totals[min(count - 1, count * 99 // 100)],
        "max_us": totals[-1],
        "stages_us": {
            name: sum(getattr(each, f"{name}_us") for each in stage_times) // count
            for name in ("queue", "gate", "segmenter", "regions")
        },
    }
