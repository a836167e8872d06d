"""The commands that a training names are commands of this program."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from edgeinspect.cli import _next_commands as next_commands
from edgeinspect.cli.main import cli


def parse(command: str) -> str:
    """Return the name of a command, whose options and arguments must exist."""
    program, *words = shlex.split(command)
    assert program == "edgeinspect"
    group: click.Command = cli
    context = click.Context(cli)
    name = []
    while isinstance(group, click.Group):
        name.append(words.pop(0))
        found = group.get_command(context, name[-1])
        assert found is not None, command
        group = found
    known = {option for one in group.params for option in one.opts}
    assert {word for word in words if word.startswith("--")} <= known, command
    return " ".join(name)


def config(**values: object) -> SimpleNamespace:
    defaults = {"out": Path("runs/a b"), "data": Path("parts"), "layout": None, "good_classes": ()}
    return SimpleNamespace(**{**defaults, **values})


@pytest.mark.parametrize(
    ("is_plain", "has_test", "names"),
    [
        (False, True, ["evaluate", "models add", "calibrate"]),
        (True, False, ["models add", "calibrate"]),
    ],
)
def test_after_good_parts(is_plain: bool, has_test: bool, names: list[str]) -> None:
    commands = [
        one.command
        for one in next_commands.after_good_parts(config(), is_plain=is_plain, has_test=has_test)
    ]
    assert [parse(one) for one in commands] == names
    images = shlex.split(commands[-1])
    assert images[images.index("--images") + 1] == ("parts" if is_plain else "parts#train")
    assert ("--data" in images) == has_test


def test_after_a_gate() -> None:
    one = config(kind="gate", pair=None, good_classes=("i.O.",))
    commands = list(
        next_commands.after_training(one, Path("runs/line.yaml"), has_masks=True, has_test=True)
    )
    assert [parse(each.command) for each in commands] == [
        "evaluate",
        "train segmenter",
        "models add",
        "calibrate",
        "check",
        "run",
    ]
    assert "--good-class i.O." in commands[0].command
