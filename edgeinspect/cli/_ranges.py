"""Ranges of numbers that options take, described in words in the help."""

from __future__ import annotations

import math
from typing import Any

import click

INT64_MAX = (1 << 63) - 1


class IntRange(click.IntRange):
    """A range of whole numbers, described in words."""

    def _describe_range(self) -> str:
        return describe_range(self)


class FiniteRange(click.FloatRange):
    """A range of finite numbers; click's own accepts `nan`, and `inf` on an open side."""

    def _describe_range(self) -> str:
        return describe_range(self)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r:.40} is not a finite number.", param, ctx)
        return number


def describe_range(limits: click.IntRange | click.FloatRange) -> str:
    """Return `1 to 9`, `above 0` or `1 or more`; limits of a data type are not mentioned."""
    low, high = limits.min, limits.max
    if high is not None and high >= (1 << 31) - 1:
        high = None
    if low is None:
        return "" if high is None else f"below {high}" if limits.max_open else f"{high} or less"
    if high is None:
        return f"above {low}" if limits.min_open else f"{low} or more"
    if limits.min_open or limits.max_open:
        above = f"above {low}" if limits.min_open else f"{low} or more"
        return f"{above}, {'below' if limits.max_open else 'at most'} {high}"
    return f"{low} to {high}"
