"""The whole way with few images: 24 good and 12 defective ones, by the commands of the tutorial.

In an empty folder, until the PLC has rejected each defective part of a new batch that the line
rejects. The minutes are printed; a PC that runs tests is busy with other work too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.system.test_tutorial import PAGE, Reader, verdicts
from tests.system.tutorial_page import Step, read_steps

GOOD, DEFECTIVE = 24, 12
PARTS_TIMEOUT_S = 120
START_TIMEOUT_S = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def steps_to_the_plc() -> list[Step]:
    """Return the page's steps from the images to the PLC that is shown parts."""
    steps = [s for s in read_steps(PAGE) if s.kind in ("run", "start")]
    last = next(
        n for n, s in enumerate(steps) if s.command.strip() == "cp tomorrow/images/*.png incoming/"
    )
    return steps[: last + 1]


def keep_few(images: Path) -> None:
    """Remove all images but 24 good and 12 defective ones, four of each kind, with their masks."""
    left = {
        "good": GOOD,
        "scratch": DEFECTIVE // 3,
        "dent": DEFECTIVE // 3,
        "stain": DEFECTIVE // 3,
    }
    for path in sorted((images / "images").iterdir()):
        kind = path.name.partition("-")[0]
        left[kind] -= 1
        if left[kind] < 0:
            path.unlink()
            for mask in (images / "masks").glob(f"*/{path.name}"):
                mask.unlink()
    assert len(list((images / "images").iterdir())) == GOOD + DEFECTIVE
    assert len(list((images / "masks").rglob("*.png"))) == DEFECTIVE


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    needs.library("torch")
    needs.library("pymodbus")
    (tmp_path / "washers").mkdir()
    one = Reader(tmp_path / "washers")
    try:
        yield one
    finally:
        one.close()


def test_from_36_images_to_the_rejects_at_the_plc(reader: Reader) -> None:
    began = time.monotonic()
    for number, step in enumerate(steps_to_the_plc()):
        at = time.monotonic()
        if step.kind == "start":
            reader.start(step.terminal, step.command)
            wait_for_output(reader, step.terminal)
        else:
            reader.run(step.command)
        if number == 0:
            keep_few(reader.folder / "washers")
        if (took_s := time.monotonic() - at) > 1:
            print(f"{took_s:.0f} s: {step.command.strip().partition(chr(10))[0]}")
    parts = {path.name for path in (reader.folder / "tomorrow/images").iterdir()}
    rows = wait_for_parts(reader, parts)
    print(
        f"{GOOD} good and {DEFECTIVE} defective images to the PLC: {time.monotonic() - began:.0f} s"
    )
    decisions = {row["label"]: row["decision"] for row in rows}
    assert "NO_VERDICT" not in decisions.values()
    rejected = {name for name, decision in decisions.items() if decision == "REJECT"}
    found = sum(not name.startswith("good") for name in rejected)
    defective = sum(not name.startswith("good") for name in parts)
    print(f"rejected: {found} of {defective} defective, {len(rejected) - found} good parts")
    assert found > defective / 2
    assert len(rejected) - found < (len(parts) - defective) / 2
    expected = [
        f"{row['seq']}: REJECT, code {row['reject_code']}"
        for row in rows
        if row["decision"] == "REJECT" and row["seq"] != "1"  # which was before the gateway
    ]
    assert wait_for_rejects(reader, expected[-1]) == expected, "the PLC got what the ledger has"


def wait_for_output(reader: Reader, terminal: str) -> None:
    """Wait until a program that runs on has said that it runs."""
    log = reader.folder.parent / f"{terminal}.log"
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and not log.read_text(errors="replace").strip():
        time.sleep(0.1)


def wait_for_parts(reader: Reader, names: set[str]) -> list[dict[str, str]]:
    """Return the ledger's rows once each part has one."""
    until = time.monotonic() + PARTS_TIMEOUT_S
    while True:
        rows = verdicts(reader)
        if names <= {row["label"] for row in rows}:
            return rows
        assert time.monotonic() < until, f"no verdict: {names - {row['label'] for row in rows}}"
        time.sleep(1)


def wait_for_rejects(reader: Reader, last: str) -> list[str]:
    """Return the rejects that the PLC printed, once the last one is there."""
    log = reader.folder.parent / "plc.log"
    until = time.monotonic() + PARTS_TIMEOUT_S
    while True:
        results = [
            line.removeprefix("result ")
            for line in log.read_text().splitlines()
            if line.startswith("result ") and "REJECT" in line
        ]
        if last in results or time.monotonic() > until:
            return results
        time.sleep(0.5)


def test_the_way_is_that_of_the_page() -> None:
    """The steps are those that a reader does, from the images to the PLC."""
    commands = " ".join(step.command for step in steps_to_the_plc())
    for command in (
        "data example",
        "data split",
        "train",
        "models add",
        "calibrate",
        "run",
        "gateway",
    ):
        assert f"edgeinspect {command}" in commands
