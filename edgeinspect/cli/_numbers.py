"""Numbers of the command line: finite, and short enough to be one."""

from __future__ import annotations

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """click's range, which lets `nan` through whatever its bounds, and `inf` where it has one."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r:.40} is not a finite number.", param, ctx)
        return number


def is_whole(text: str) -> bool:
    """Whether a text is a whole number of at most 9 digits, without a sign."""
    return text.isdecimal() and len(text) <= 9
