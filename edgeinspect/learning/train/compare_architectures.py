"""`train gate --compare`: several networks on one set, each with a run folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeinspect.errors import ModelError
from edgeinspect.learning.datasets.records import TEST, TRAIN, VAL
from edgeinspect.learning.train import architectures
from edgeinspect.learning.train.comparison import compare
from edgeinspect.learning.train.plan import Plan
from edgeinspect.learning.train.training import prepare, train
from edgeinspect.learning.train.write_version import Report
from edgeinspect.storage.model_store import Store

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
    from edgeinspect.learning.calibrate.calibration import Request, calibrate
    from edgeinspect.learning.calibrate.write_version import write_version

    parent = Store().resolve(str(folder.absolute()))
    request = Request(
        parent,
        f"{plan.data}#{TRAIN}",
        f"{plan.data}#{VAL}",
        count=_CALIBRATION_FRAMES,
        blame_frames=0,
    )
    with tempfile.TemporaryDirectory() as work:
        outcome = calibrate(
            request,
            Path(work),
            report=lambda stage, done, total: report(f"int8 {stage}", done, total, 0.0),
        )
        if not outcome.acceptance.accepted:
            raise ModelError(f"refused: {outcome.acceptance.reason}", where=str(parent.id))
        return write_version(outcome, Store(folder.parent.parent))
