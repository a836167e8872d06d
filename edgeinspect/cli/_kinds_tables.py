"""Tables of a classification by a gate that tells kinds of defects apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeinspect.cli._tables import Column, TextTable, number

if TYPE_CHECKING:
    from edgeinspect.learning.evaluate import Classification


def kinds_table(kinds: Classification) -> TextTable:
    """Return recall and precision of each class, with intervals."""
    from edgeinspect.learning.evaluate import format_interval, format_percent

    table = TextTable(
        Column("class", fixed=True),
        number("images"),
        number("recall"),
        "95 % interval",
        number("precision"),
        "95 % interval",
    )
    for row in kinds.classes:
        table.add_row(
            row.name,
            str(row.images),
            format_percent(row.recall.value),
            format_interval(row.recall),
            format_percent(row.precision.value),
            format_interval(row.precision),
        )
    return table


def confusion_table(kinds: Classification) -> TextTable:
    """Return the confusion matrix in images: rows true, columns predicted."""
    table = TextTable(
        Column("true \\ predicted", fixed=True), *(number(name) for name in kinds.names)
    )
    for name, row in zip(kinds.names, kinds.confusion, strict=True):
        table.add_row(name, *(str(count) for count in row))
    return table
