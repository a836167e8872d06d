"""Several gates on the same images: how good, how large, how fast.

Every figure is taken from the exported graph under the line's own backend; thresholds are
chosen on the validation split, everything else is measured on the test split.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect import registry
from edgeinspect.domain import SystemClock
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.evaluate import classifier_scores, wilson_interval
from edgeinspect.learning.onnx_graphs.flops import count_flops
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest

TrainFunction = Callable[[str], Path]
"""Trains the network of that name and exports it; returns its version's folder."""
QuantizeFunction = Callable[[Path], Path]
"""Calibrates a version; returns the folder of its INT8 version. A refusal is noted."""
ComparisonProgress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

WARM_UP_RUNS = 5


@dataclass(frozen=True, slots=True)
class ProportionWithInterval:
    """So many of so many, with its 95 % interval (Wilson)."""

    hits: int
    total: int
    interval: tuple[float, float]

    @classmethod
    def count(cls, hits: int, total: int) -> ProportionWithInterval:
        """Count it."""
        low, high = wilson_interval(hits, total)
        return cls(hits, total, (round(low, 4), round(high, 4)))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval
        return f"{self.hits / self.total:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class ArchitectureResult:
    """What one graph does on the test split."""

    threshold: float
    """Of `defect_prob`: the best balance of escapes and overkill on the validation split."""
    auc: float
    accuracy: ProportionWithInterval
    escape: ProportionWithInterval
    """Defective images that passed."""
    overkill: ProportionWithInterval
    """Sound images that were rejected."""
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
    """Why there is no INT8."""


@dataclass(frozen=True, slots=True)
class ArchitectureComparison:
    """All of them."""

    rows: tuple[ComparisonRow, ...]
    backend: str
    pictures: int
    defective: int
    frame: tuple[int, ...]
    """(H, W, C)."""

    def to_document(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return asdict(self)

    def to_markdown(self) -> str:
        """The table, and what its columns mean."""
        height, width, channels = self.frame
        lines = [
            "| network | accuracy | escape | overkill | AUC | parameters | GMAC | "
            "FP32 ms | INT8 ms | INT8 accuracy |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            one, eight = row.fp32, row.int8
            cells = (
                row.name,
                one.accuracy,
                one.escape,
                one.overkill,
                f"{one.auc:.4f}",
                f"{row.parameters / 1e6:.2f} M",
                f"{row.gmac:.2f}",
                f"{one.latency_ms:.2f}",
                f"{eight.latency_ms:.2f}" if eight else "-",
                eight.accuracy if eight else "-",
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
        lines.append(
            f"On {self.pictures} test pictures, {self.defective} of them defective; in brackets "
            "95 % intervals (Wilson). Thresholds from the validation split. Latency: median of "
            f"one {height}x{width}x{channels} frame, backend `{self.backend}`, on this machine."
        )
        lines += [f"- {row.name}: no INT8: {row.note}" for row in self.rows if row.note]
        return "\n".join(lines) + "\n"


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
    """Fit, measure and set side by side; `out/comparison.{md,json}` are kept up with it.

    Args:
        names: Of networks, as `architectures.build_gate` knows them.
        fit: Trains and exports one.
        validation: To choose thresholds on.
        test: For the figures; fewer than 1 of either kind leaves a share empty.
        out: Folder for the two files; made if absent.
        quantize: Makes an INT8 version; no INT8 columns without.
        backend: That judges and is timed.
        runs: Inferences to take the latency from.
        progress: Told what goes on.

    Raises:
        UsageError: No name, or one twice.
        EdgeInspectError: Whatever `fit` raises; what was finished before is in the files.
    """
    if not names or len(set(names)) != len(names):
        raise UsageError(
            "name networks to compare, each once", where="--compare", remedy="As resnet18,small"
        )
    out.mkdir(parents=True, exist_ok=True)
    found = ArchitectureComparison(
        (), backend, len(test), int(test.defective.sum()), test.images.shape[1:]
    )
    for done, name in enumerate(names):
        progress(f"compare {name}", done, len(names))
        folder = train(name)
        judged = measure_version(folder, validation, test, backend, runs)
        int8, note = None, ""
        if quantize is not None:
            try:
                int8 = measure_version(quantize(folder), validation, test, backend, runs)
            except EdgeInspectError as error:
                note = str(error)
        row = ComparisonRow(
            name,
            _parameter_count(folder),
            round(count_flops(folder / "model.onnx").gmac, 3),
            judged,
            int8,
            note,
        )
        found = ArchitectureComparison(
            (*found.rows, row), backend, found.pictures, found.defective, found.frame
        )
        write_comparison(found, out)
    progress("compare", len(names), len(names))
    return found


def write_comparison(comparison: ArchitectureComparison, out: Path) -> None:
    """`comparison.md` and `comparison.json`, replaced whole."""
    text = json.dumps(comparison.to_document(), indent=2) + "\n"
    for name, content in (("comparison.json", text), ("comparison.md", comparison.to_markdown())):
        beside = out / f".{name}"
        beside.write_text(content, encoding="utf-8")
        beside.replace(out / name)


def measure_version(
    folder: Path, validation: ImageArrays, test: ImageArrays, backend: str, runs: int
) -> ArchitectureResult:
    """Measure one version of a gate under a backend."""
    part = registry.load_plugin("backend", backend)
    engine = part.build(
        part.Options(model=str(folder.absolute())), SystemClock(), store=ModelStore()
    )
    try:
        threshold = youden_threshold(_probs(engine, validation), validation.defective)
        probs = _probs(engine, test)
        times_ms = _latencies_ms(engine, test.images[0], runs)
    finally:
        engine.close()
    rejected, bad = probs >= threshold, test.defective
    return ArchitectureResult(
        threshold=round(threshold, 6),
        auc=round(classifier_scores(probs, bad, ()).auc, 4),
        accuracy=ProportionWithInterval.count(int((rejected == bad).sum()), len(bad)),
        escape=ProportionWithInterval.count(int((~rejected & bad).sum()), int(bad.sum())),
        overkill=ProportionWithInterval.count(int((rejected & ~bad).sum()), int((~bad).sum())),
        latency_ms=round(float(np.median(times_ms)), 3),
        latency_p95_ms=round(float(np.quantile(times_ms, 0.95)), 3),
    )


def youden_threshold(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
    """The threshold with the greatest recall less false rejects (Youden 1950).

    Half way between the neighbours, so that a rounding does not decide; 0.5 where a kind is
    missing.
    """
    good, bad = np.sort(probs[~defective]), np.sort(probs[defective])
    if not len(good) or not len(bad):
        return 0.5
    levels = np.unique(probs)
    edges = np.concatenate([(levels[:-1] + levels[1:]) / 2, [levels[-1]]])
    recall = 1 - np.searchsorted(bad, edges, "left") / len(bad)
    rejects = 1 - np.searchsorted(good, edges, "left") / len(good)
    return float(edges[int(np.argmax(recall - rejects))])


def _probs(engine: Engine, pictures: ImageArrays) -> NDArray[np.float64]:
    return np.array([float(engine.infer(image)[0][0]) for image in pictures.images])


def _latencies_ms(engine: Engine, image: NDArray[np.uint8], runs: int) -> NDArray[np.float64]:
    for _ in range(WARM_UP_RUNS):
        engine.infer(image)
    out = np.empty(max(1, runs))
    for index in range(len(out)):
        began_ns = time.perf_counter_ns()
        engine.infer(image)
        out[index] = (time.perf_counter_ns() - began_ns) / 1e6
    return out


def _parameter_count(folder: Path) -> int:
    """As the training counted them, else as the graph holds them."""
    training = read_manifest(folder / MANIFEST_FILE).training
    counted = training.get("parameters") if isinstance(training, dict) else None
    return counted if isinstance(counted, int) else count_flops(folder / "model.onnx").parameters
