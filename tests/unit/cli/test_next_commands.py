"""The commands that a training names are commands of this program."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from edgeinspect.cli import _next_commands as next_commands
from edgeinspect.cli.main import cli
from edgeinspect.learning.calibrate.good_parts import MIN_FRAMES


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


def after_good_parts(**test: int) -> list[str]:
    accuracy = {"test": test} if test else {}
    line = Path("runs/a b/line.yaml")
    return [one.command for one in next_commands.after_good_parts(config(), line, accuracy)]


def test_after_good_parts() -> None:
    commands = after_good_parts(good=8, defective=5, found=1)
    names = ["evaluate", "models add", "calibrate", "check", "run"]
    assert [parse(one) for one in commands] == names
    assert commands[2].endswith("--images 'parts#train' --data 'parts#test'")


@pytest.mark.parametrize(
    "test",
    [
        {},
        {"good": 40, "defective": 0, "found": 0},
        {"good": 7, "defective": 5, "found": 5},
        {"good": 40, "defective": 5, "found": 0},
    ],
    ids=["no test split", "no defective ones", "few good ones", "finds nothing"],
)
def test_a_calibration_that_cannot_be_verified_is_not_named(test: dict[str, int]) -> None:
    names = [parse(one) for one in after_good_parts(**test)]
    assert "calibrate" not in names
    assert "models add" in names


def test_a_calibration_needs_as_many_good_images_as_the_next_commands_say() -> None:
    assert next_commands.GOOD_TO_VERIFY == MIN_FRAMES


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
