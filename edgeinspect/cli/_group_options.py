"""Options that say which images belong together: by name, folder or time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeinspect.cli._options import with_options
from edgeinspect.cli._ranges import FiniteRange
from edgeinspect.cli._tables import format_number_of, print_text

if TYPE_CHECKING:
    from edgeinspect.cli._results.learning import ImageGroups
    from edgeinspect.learning.datasets import Dataset, GroupRule

Command = TypeVar("Command", bound=Callable[..., Any])

GROUPS = with_options(
    click.option(
        "--group-pattern",
        metavar="REGEX",
        help=r"Group images by the capture group of this regular expression in their names, as "
        r"'coil_(\d+)_'.",
    ),
    click.option(
        "--group-folder",
        is_flag=True,
        help="Group images by their folder, without those of classes and splits.",
    ),
    click.option(
        "--group-gap",
        metavar="MINUTES",
        type=FiniteRange(0),
        help="Start a new group after a longer time without an image, by the times in names, "
        "EXIF data or of the files.",
    ),
)


def group_rule(group_pattern: str | None, group_folder: bool, group_gap: float | None) -> GroupRule:
    """Return the rule that the options describe."""
    from edgeinspect.learning.datasets import GroupRule

    return GroupRule(group_pattern or "", group_folder, group_gap)


def group_result(dataset: Dataset) -> ImageGroups | None:
    """Return the groups of a set for people and programs; None if it has none."""
    from edgeinspect.cli._results.learning import ImageGroup, ImageGroups
    from edgeinspect.learning.datasets import summarise_groups

    summary = summarise_groups(dataset)
    if summary is None:
        return None
    return ImageGroups(
        groups=summary.count,
        largest=summary.largest,
        largest_images=summary.largest_images,
        examples=[ImageGroup(group=name, images=list(names)) for name, names in summary.examples],
    )


def print_groups(groups: ImageGroups) -> None:
    """Print the number of groups, the largest, and examples."""
    images = format_number_of(groups.largest_images, "image")
    print_text(
        f"{format_number_of(groups.groups, 'group')}, the largest is '{groups.largest}' with "
        f"{images}"
    )
    for each in groups.examples:
        print_text(f"  {each.group}: {', '.join(each.images)}")
