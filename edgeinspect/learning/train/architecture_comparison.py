"""`train gate --compare`: trains several gates on one data set and compares them.

Metrics are measured with the exported graph under the line's own backend; thresholds are
chosen on the validation split, everything else is measured on the test split.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import EdgeInspectError, ModelError, UsageError
from edgeinspect.learning.datasets import TEST, TRAIN, VAL, ImageArrays
from edgeinspect.learning.evaluate import classifier_scores, load_engine, wilson_interval
from edgeinspect.learning.onnx_graphs.flops import count_flops
from edgeinspect.learning.train.checkpoint import write_file
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.preconditions import check_options
from edgeinspect.learning.train.preparation import prepare_training
from edgeinspect.learning.train.progress import PrefixedProgress, StageProgress
from edgeinspect.learning.train.training import train_model
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest
from edgeinspect.system import claim_folder

TrainFunction = Callable[[str], Path]
"""Trains the network of that name and exports it; returns its version's folder."""
QuantizeFunction = Callable[[Path], Path]
"""Calibrates a version; returns the folder of its INT8 version. A rejection becomes a note."""
ComparisonProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

WARM_UP_RUNS = 5
_CALIBRATION_FRAMES = 128


@dataclass(frozen=True, slots=True)
class ProportionWithInterval:
    """`hits` of `total`, with the 95 % interval (Wilson)."""

    hits: int
    total: int
    interval: tuple[float, float]

    @classmethod
    def count(cls, hits: int, total: int) -> ProportionWithInterval:
        """Create it with its interval, rounded."""
        low, high = wilson_interval(hits, total)
        return cls(hits, total, (round(low, 4), round(high, 4)))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval
        return f"{self.hits / self.total:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class ArchitectureResult:
    """Metrics and latency of one graph on the test split."""

    threshold: float
    """Of `defect_prob`: maximises recall minus false rejects on the validation split."""
    auc: float
    accuracy: ProportionWithInterval
    escape: ProportionWithInterval
    """Defective images that passed."""
    overkill: ProportionWithInterval
    """Good images that were rejected."""
    latency_ms: float
    """Median of one inference on this machine's processor."""
    latency_p95_ms: float


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One network."""

    name: str
    parameters: int
    gmac: float
    fp32: ArchitectureResult
    int8: ArchitectureResult | None = None
    note: str = ""
    """Why there is no INT8 version."""


@dataclass(frozen=True, slots=True)
class ArchitectureComparison:
    """The compared networks; encoded as JSON field by field."""

    rows: tuple[ComparisonRow, ...]
    backend: str
    pictures: int
    defective: int
    frame: tuple[int, ...]
    """(H, W, C)."""

    def to_document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return the table and the meaning of its columns."""
        lines = [
            "| network | accuracy | escape | overkill | AUC | parameters | GMAC | "
            "FP32 ms | INT8 ms | INT8 accuracy |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            fp32, int8 = row.fp32, row.int8
            cells = (
                row.name,
                fp32.accuracy,
                fp32.escape,
                fp32.overkill,
                f"{fp32.auc:.4f}",
                f"{row.parameters / 1e6:.2f} M",
                f"{row.gmac:.2f}",
                f"{fp32.latency_ms:.2f}",
                f"{int8.latency_ms:.2f}" if int8 else "-",
                int8.accuracy if int8 else "-",
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines += ["", f"{self.conditions} In brackets 95 % intervals (Wilson)."]
        lines += [f"- {row.name}: no INT8: {row.note}" for row in self.rows if row.note]
        return "\n".join(lines) + "\n"

    @property
    def conditions(self) -> str:
        """On what, and how, the figures were measured."""
        height, width, channels = self.frame
        return (
            f"On {self.pictures} test images, {self.defective} of them defective. Thresholds from "
            f"the validation split. Latency: median of one {height}x{width}x{channels} frame, "
            f"backend `{self.backend}`, on this machine."
        )


def train_and_compare_gates(
    config: TrainingConfig, names: Sequence[str], on_progress: StageProgress
) -> ArchitectureComparison:
    """Train each network and measure it.

    Args:
        config: `out` gets a run folder per network and `comparison.{md,json}`.
        names: As `--arch` accepts them.
        on_progress: Called with each image read and each step.

    Raises:
        UsageError: No name, or an unknown network.
        MissingExtraError: A network needs the extra `zoo`, which is not installed.
        OutputError: Another process writes into `out`.
    """
    if config.pair is not None:
        raise UsageError("--pair goes with one network", where="--compare")
    for name in names:  # fail before hours of training
        check_options(replace(config, architecture=name, name=name, out=config.out / name))
    with claim_folder(config.out):
        return _train_and_compare(config, names, on_progress)


def _train_and_compare(
    config: TrainingConfig, names: Sequence[str], on_progress: StageProgress
) -> ArchitectureComparison:
    first = replace(config, architecture=names[0] if names else None)
    images = prepare_training(first, on_progress).images

    def train(name: str) -> Path:
        one = replace(config, architecture=name, name=name, out=config.out / name)
        train_model(one, PrefixedProgress(name, on_progress))
        return one.out / name / "1"

    return compare_architectures(
        names,
        train,
        images[VAL],
        images.get(TEST, images[VAL]),
        config.out,
        quantize=lambda folder: _quantize(folder, config, on_progress),
        progress=lambda stage, done, total: on_progress(stage, done, total),
    )


def compare_architectures(
    names: Sequence[str],
    train: TrainFunction,
    validation: ImageArrays,
    test: ImageArrays,
    out: Path,
    *,
    quantize: QuantizeFunction | None = None,
    backend: str = "ov",
    runs: int = 50,
    progress: ComparisonProgress = lambda stage, done, total: None,
) -> ArchitectureComparison:
    """Train and measure each network; `out/comparison.{md,json}` are updated after each.

    Args:
        names: Of networks, as `architectures.build_gate` accepts them.
        train: Trains and exports one.
        validation: For the thresholds.
        test: For the metrics.
        out: Folder for the two files; created if absent.
        quantize: Makes an INT8 version; without it there are no INT8 columns.
        backend: Of metrics and latency.
        runs: Inferences per latency.
        progress: Called with stage, done and total.

    Raises:
        UsageError: No name, or a name twice.
        EdgeInspectError: From `train`; the files have the networks before.
    """
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "name networks to compare, each once", where="--compare", remedy="As resnet18,small"
        )
    out.mkdir(parents=True, exist_ok=True)
    comparison = ArchitectureComparison(
        (), backend, len(test), int(test.defective.sum()), test.images.shape[1:]
    )
    for done, name in enumerate(names):
        progress(f"compare {name}", done, len(names))
        folder = train(name)
        fp32 = measure_version(folder, validation, test, backend, runs)
        int8, note = None, ""
        if quantize is not None:
            try:
                int8 = measure_version(quantize(folder), validation, test, backend, runs)
            except EdgeInspectError as error:
                note = str(error)
        gmac = round(count_flops(folder / "model.onnx").gmac, 3)
        row = ComparisonRow(name, _parameter_count(folder), gmac, fp32, int8, note)
        comparison = replace(comparison, rows=(*comparison.rows, row))
        write_comparison(comparison, out)
    progress("compare", len(names), len(names))
    return comparison


def write_comparison(comparison: ArchitectureComparison, out: Path) -> None:
    """Write `comparison.md` and `comparison.json`, each atomically."""
    text = json.dumps(comparison.to_document(), indent=2) + "\n"
    write_file(out / "comparison.json", text.encode())
    write_file(out / "comparison.md", comparison.to_markdown().encode())


def measure_version(
    folder: Path, validation: ImageArrays, test: ImageArrays, backend: str, runs: int
) -> ArchitectureResult:
    """Measure one version of a gate under a backend."""
    engine = load_engine(str(folder.absolute()), backend)
    try:
        threshold = youden_threshold(_probs(engine, validation), validation.defective)
        probs = _probs(engine, test)
        latencies_ms = _latencies_ms(engine, test.images[0], runs)
    finally:
        engine.close()
    rejected, bad = probs >= threshold, test.defective
    return ArchitectureResult(
        threshold=round(threshold, 6),
        auc=round(classifier_scores(probs, bad, ()).auc, 4),
        accuracy=ProportionWithInterval.count(int((rejected == bad).sum()), len(bad)),
        escape=ProportionWithInterval.count(int((~rejected & bad).sum()), int(bad.sum())),
        overkill=ProportionWithInterval.count(int((rejected & ~bad).sum()), int((~bad).sum())),
        latency_ms=round(float(np.median(latencies_ms)), 3),
        latency_p95_ms=round(float(np.quantile(latencies_ms, 0.95)), 3),
    )


def youden_threshold(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
    """Return the threshold that maximises recall minus false rejects (Youden 1950).

    It is half way between neighbouring probabilities, so that rounding does not matter; 0.5
    without good or without defective images.
    """
    good, bad = np.sort(probs[~defective]), np.sort(probs[defective])
    if not len(good) or not len(bad):
        return 0.5
    levels = np.unique(probs)
    edges = np.concatenate([(levels[:-1] + levels[1:]) / 2, [levels[-1]]])
    recall = 1 - np.searchsorted(bad, edges, "left") / len(bad)
    rejects = 1 - np.searchsorted(good, edges, "left") / len(good)
    return float(edges[int(np.argmax(recall - rejects))])


def _probs(engine: Engine, images: ImageArrays) -> NDArray[np.float64]:
    return np.array([float(engine.infer(image)[0][0]) for image in images.images])


def _latencies_ms(engine: Engine, image: NDArray[np.uint8], runs: int) -> NDArray[np.float64]:
    for _ in range(WARM_UP_RUNS):
        engine.infer(image)
    out = np.empty(max(1, runs))
    for index in range(len(out)):
        started_ns = time.perf_counter_ns()
        engine.infer(image)
        out[index] = (time.perf_counter_ns() - started_ns) / 1e6
    return out


def _parameter_count(folder: Path) -> int:
    """Return the parameters as the training counted them, else as the graph holds them."""
    training = read_manifest(folder / MANIFEST_FILE).training
    counted = training.get("parameters") if isinstance(training, dict) else None
    return counted if isinstance(counted, int) else count_flops(folder / "model.onnx").parameters


def _quantize(folder: Path, config: TrainingConfig, on_progress: StageProgress) -> Path:
    """Calibrate a version on its own training images; return the INT8 version."""
    from edgeinspect.learning.calibrate import CalibrationConfig, calibrate, write_version

    parent = ModelStore().resolve(str(folder.absolute()))
    calibration = CalibrationConfig(
        parent,
        f"{config.data}#{TRAIN}",
        f"{config.data}#{VAL}",
        frame_count=_CALIBRATION_FRAMES,
        sensitivity_frames=0,
    )
    with tempfile.TemporaryDirectory() as work:
        result = calibrate(
            calibration,
            Path(work),
            progress=lambda stage, done, total: on_progress(f"int8 {stage}", done, total),
        )
        if not result.acceptance.is_accepted:
            raise ModelError(f"refused: {result.acceptance.reason}", where=str(parent.id))
        return write_version(result, ModelStore(folder.parent.parent))
