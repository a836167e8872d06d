"""`train gate --compare`: several networks on one set, each with a run folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeinspect.errors import ModelError
from edgeinspect.learning.datasets import TEST, TRAIN, VAL
from edgeinspect.learning.train import architectures
from edgeinspect.learning.train.architecture_comparison import compare_architectures
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.training import prepare_training, train_model
from edgeinspect.learning.train.write_version import StageProgress
from edgeinspect.storage.model_store import ModelStore

_CALIBRATION_FRAMES = 128


def train_and_compare_gates(
    config: TrainingConfig, names: Sequence[str], on_progress: StageProgress
) -> str:
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
        architectures.build_gate(name, channels=config.channels or 1)
    pictures = prepare_training(
        replace(config, architecture=names[0] if names else None), on_progress
    ).pictures

    def fit(name: str) -> Path:
        one = replace(config, architecture=name, name=name, out=config.out / name)
        train_model(
            one, lambda stage, done, total, loss: on_progress(f"{name} {stage}", done, total, loss)
        )
        return one.out / name / "1"

    found = compare_architectures(
        names,
        fit,
        pictures[VAL],
        pictures.get(TEST, pictures[VAL]),
        config.out,
        quantize=lambda folder: _quantize(folder, config, on_progress),
        progress=lambda stage, done, total: on_progress(stage, done, total, 0.0),
    )
    return found.to_markdown()


def _quantize(folder: Path, config: TrainingConfig, on_progress: StageProgress) -> Path:
    """Calibrate a version on its own training images; returns the INT8 version."""
    from edgeinspect.learning.calibrate.calibration import CalibrationConfig, calibrate
    from edgeinspect.learning.calibrate.write_version import write_version

    parent = ModelStore().resolve(str(folder.absolute()))
    request = CalibrationConfig(
        parent,
        f"{config.data}#{TRAIN}",
        f"{config.data}#{VAL}",
        frame_count=_CALIBRATION_FRAMES,
        sensitivity_frames=0,
    )
    with tempfile.TemporaryDirectory() as work:
        outcome = calibrate(
            request,
            Path(work),
            progress=lambda stage, done, total: on_progress(f"int8 {stage}", done, total, 0.0),
        )
        if not outcome.acceptance.is_accepted:
            raise ModelError(f"refused: {outcome.acceptance.reason}", where=str(parent.id))
        return write_version(outcome, ModelStore(folder.parent.parent))
