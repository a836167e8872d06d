"""Ranges of numbers that options take, described in words in the help."""

from __future__ import annotations

import math
from typing import Any

import click


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
    """Return `1 to 9`, `above 0` or `at least 1`; limits of a data type are not mentioned."""
    low, high = limits.min, limits.max
    if high is not None and high >= (1 << 31) - 1:
        high = None
    if low is None:
        return "" if high is None else f"{'below' if limits.max_open else 'at most'} {high}"
    above = f"{'above' if limits.min_open else 'at least'} {low}"
    if high is None:
        return above
    if limits.min_open or limits.max_open:
        return f"{above}, {'below' if limits.max_open else 'at most'} {high}"
    return f"{low} to {high}"
