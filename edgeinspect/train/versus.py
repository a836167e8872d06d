"""`train gate --compare`: several networks on one set, each with a run folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeinspect.datasets.records import TEST, TRAIN, VAL
from edgeinspect.errors import ModelError
from edgeinspect.store import Store
from edgeinspect.train import architectures
from edgeinspect.train.comparison import compare
from edgeinspect.train.finish import Report
from edgeinspect.train.plan import Plan
from edgeinspect.train.program import prepare, train

_CALIBRATION_FRAMES = 128


def compare_gates(plan: Plan, names: Sequence[str], report: Report) -> str:
    """Train each network, measure all; returns the table (Markdown).

    Args:
        plan: `out` gets a run folder per network and `comparison.{md,json}`.
        names: As `--arch` takes them.
        report: Told how far it is.

    Raises:
        UsageError: A network that does not exist, or none.
        MissingExtraError: One of the zoo's, and the extra is not installed.
    """
    for name in names:  # before hours are spent on the others
        architectures.gate(name, channels=plan.channels or 1)
    pictures = prepare(replace(plan, architecture=names[0] if names else None), report).pictures

    def fit(name: str) -> Path:
        one = replace(plan, architecture=name, name=name, out=plan.out / name)
        train(one, lambda stage, done, total, loss: report(f"{name} {stage}", done, total, loss))
        return one.out / name / "1"

    found = compare(
        names,
        fit,
        pictures[VAL],
        pictures.get(TEST, pictures[VAL]),
        plan.out,
        quantize=lambda folder: _quantized(folder, plan, report),
        progress=lambda stage, done, total: report(stage, done, total, 0.0),
    )
    return found.markdown()


def _quantized(folder: Path, plan: Plan, report: Report) -> Path:
    """Calibrate a version on its own training pictures; returns the INT8 version."""
    from edgeinspect.calibrate.program import Request, calibrate
    from edgeinspect.calibrate.version import write_version

    parent = Store().resolve(str(folder.absolute()))
    request = Request(
        parent, f"{plan.data}#{TRAIN}", f"{plan.data}#{VAL}", count=_CALIBRATION_FRAMES,
        blame_frames=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        outcome = calibrate(
            request,
            Path(work),
            report=lambda stage, done, total: report(f"int8 {stage}", done, total, 0.0),
        )
        if not outcome.acceptance.accepted:
            raise ModelError(f"refused: {outcome.acceptance.reason}", where=str(parent.id))
        return write_version(outcome, Store(folder.parent.parent))
