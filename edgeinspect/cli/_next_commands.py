"""What to do after a training: commands with the real paths, ready to paste."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeinspect.cli._command import wrap_command
from edgeinspect.cli._results.learning import NextCommand
from edgeinspect.cli._terminal import echo, echo_command

STORE = "engines"
"""The store that the commands name, in the present folder."""
GOOD_TO_VERIFY = 8
"""Good images that the INT8 version of a good-parts model is verified on, at least."""
_SMALLER = "make an INT8 version, half the size, a quarter faster with OpenVINO"
_WIDTH = 80


def after_training(
    config: Any, line: Path | None, *, has_masks: bool, has_test: bool
) -> Iterator[NextCommand]:
    """Yield the commands that follow a training.

    Args:
        config: Its `TrainingConfig`.
        line: Its line file; None for a model that no line can decide with.
        has_masks: The data set has masks: a segmenter can be trained.
        has_test: The data set has a test split.
    """
    out, data = config.out, config.data
    read_as = _reading_options(config)
    evaluate = ("--report", out / "report.html") if has_test else ("--split", "val")
    yield _command("measure it", "evaluate", out, "--data", data, *read_as, *evaluate)
    if line is None:
        return
    other = "gate" if config.kind == "segmenter" else "segmenter"
    if config.pair is None and (has_masks or other == "gate"):
        yield _command(
            f"train the {other} of the same line"
            + (", if the time per part needs one" if other == "gate" else ""),
            "train",
            other,
            "--data",
            data,
            *read_as,
            "--out",
            out.with_name(f"{out.name}-{other}"),
            "--pair",
            out,
        )
    yield _add_to_store(out)
    faster = "make an INT8 version, two to four times as fast"
    yield _calibrate(faster, out, data, "test" if has_test else "val")
    yield _command("check the line with it, on this PC", "check", line)
    images = "test" if has_test else "validation"
    yield _command(f"run that line over the {images} images", "run", line)


def after_good_parts(config: Any, line: Path, accuracy: Mapping[str, Any]) -> Iterator[NextCommand]:
    """Yield the commands that follow a training from good parts.

    A calibration is named only if the test split can verify it: images of the training cannot.

    Args:
        config: Its `AnomalyConfig`.
        line: Its line file.
        accuracy: In the manifest.
    """
    out, data = config.out, config.data
    test = accuracy.get("test", {})
    has_test = bool(test.get("defective"))
    if has_test:
        report = ("--report", out / "report.html")
        reading = _reading_options(config)
        yield _command("measure it", "evaluate", out, "--data", data, *reading, *report)
    yield _add_to_store(out)
    if has_test and test["good"] >= GOOD_TO_VERIFY and test["found"]:
        yield _calibrate(_SMALLER, out, data, "test")
    yield _command("check a line with it, on this PC", "check", line)
    yield _command(f"run that line over {'the test' if test else 'known'} images", "run", line)


def after_calibration(model: str, store: Path) -> Iterator[NextCommand]:
    """Yield the commands that follow a calibration whose version is a candidate.

    Args:
        model: NAME/VERSION.
        store: The folder that it is in.
    """
    yield _command("let lines use it", "models", "promote", model, "--store", store)


def _reading_options(config: Any) -> list[str]:
    return [
        *(("--layout", config.layout) if config.layout else ()),
        *(word for name in config.good_classes for word in ("--good-class", name)),
    ]


def _add_to_store(run: Path) -> NextCommand:
    return _command("put it into a store", "models", "add", run, "--store", STORE)


def _calibrate(purpose: str, run: Path, data: Path, proof: str) -> NextCommand:
    frames = ("--images", f"{data}#train", "--data", f"{data}#{proof}")
    return _command(purpose, "calibrate", run, "--store", STORE, *frames)


def print_commands(commands: Sequence[NextCommand]) -> None:
    """Print the commands below what they are for."""
    if not commands:
        return
    echo("next:")
    for each in commands:
        echo(f"  {each.purpose}:")
        for part in wrap_command(each.command, _WIDTH - 4):
            echo_command(f"    {part}")


def _command(purpose: str, *words: str | Path) -> NextCommand:
    return NextCommand(purpose=purpose, command=shlex.join(["edgeinspect", *map(str, words)]))
