"""Several gates on the same pictures: how good, how large, how fast.

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
from edgeinspect.domain.clock import SystemClock
from edgeinspect.errors import EdgeInspectError, UsageError
from edgeinspect.learning.datasets.arrays import Pictures
from edgeinspect.learning.evaluate.metrics.scores import gate_figures, wilson
from edgeinspect.learning.onnx_graphs.flops import cost_of
from edgeinspect.ports import Engine
from edgeinspect.storage.model_store import Store, read_manifest
from edgeinspect.storage.model_store.manifest import MANIFEST

Fit = Callable[[str], Path]
"""Trains the network of that name and exports it; returns its version's folder."""
Quantize = Callable[[Path], Path]
"""Calibrates a version; returns the folder of its INT8 version. A refusal is noted."""
Progress = Callable[[str, int, int], None]
"""Told (stage, done, total)."""

WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with its 95 % interval (Wilson)."""

    hits: int
    total: int
    interval: tuple[float, float]

    @classmethod
    def of(cls, hits: int, total: int) -> Share:
        """Count it."""
        low, high = wilson(hits, total)
        return cls(hits, total, (round(low, 4), round(high, 4)))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval
        return f"{self.hits / self.total:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True, slots=True)
class Judged:
    """What one graph does on the test split."""

    threshold: float
    """Of `defect_prob`: the best balance of escapes and overkill on the validation split."""
    auc: float
    accuracy: Share
    escape: Share
    """Defective pictures that passed."""
    overkill: Share
    """Sound pictures that were rejected."""
    latency_ms: float
    """Median of one inference on this machine's processor."""
    latency_p95_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """One network."""

    name: str
    parameters: int
    gmac: float
    fp32: Judged
    int8: Judged | None = None
    note: str = ""
    """Why there is no INT8."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of them."""

    rows: tuple[Row, ...]
    backend: str
    pictures: int
    defective: int
    frame: tuple[int, ...]
    """(H, W, C)."""

    def document(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return asdict(self)

    def markdown(self) -> str:
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


def compare(
    names: Sequence[str],
    fit: Fit,
    validation: Pictures,
    test: Pictures,
    out: Path,
    *,
    quantize: Quantize | None = None,
    backend: str = "ov",
    runs: int = 50,
    progress: Progress = lambda stage, done, total: None,
) -> Comparison:
    """Fit, measure and set side by side; `out/comparison.{md,json}` are kept up with it.

    Args:
        names: Of networks, as `architectures.gate` knows them.
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
    found = Comparison((), backend, len(test), int(test.defective.sum()), test.images.shape[1:])
    for done, name in enumerate(names):
        progress(f"compare {name}", done, len(names))
        folder = fit(name)
        judged = judge(folder, validation, test, backend, runs)
        int8, note = None, ""
        if quantize is not None:
            try:
                int8 = judge(quantize(folder), validation, test, backend, runs)
            except EdgeInspectError as error:
                note = str(error)
        row = Row(
            name,
            _parameters(folder),
            round(cost_of(folder / "model.onnx").gmac, 3),
            judged,
            int8,
            note,
        )
        found = Comparison(
            (*found.rows, row), backend, found.pictures, found.defective, found.frame
        )
        write(found, out)
    progress("compare", len(names), len(names))
    return found


def write(found: Comparison, out: Path) -> None:
    """`comparison.md` and `comparison.json`, replaced whole."""
    text = json.dumps(found.document(), indent=2) + "\n"
    for name, content in (("comparison.json", text), ("comparison.md", found.markdown())):
        beside = out / f".{name}"
        beside.write_text(content, encoding="utf-8")
        beside.replace(out / name)


def judge(folder: Path, validation: Pictures, test: Pictures, backend: str, runs: int) -> Judged:
    """Measure one version of a gate under a backend."""
    part = registry.part("backend", backend)
    engine = part.build(part.Options(model=str(folder.absolute())), SystemClock(), store=Store())
    try:
        threshold = balanced(_probs(engine, validation), validation.defective)
        probs = _probs(engine, test)
        times_ms = _times_ms(engine, test.images[0], runs)
    finally:
        engine.close()
    rejected, bad = probs >= threshold, test.defective
    return Judged(
        threshold=round(threshold, 6),
        auc=round(gate_figures(probs, bad, ()).auc, 4),
        accuracy=Share.of(int((rejected == bad).sum()), len(bad)),
        escape=Share.of(int((~rejected & bad).sum()), int(bad.sum())),
        overkill=Share.of(int((rejected & ~bad).sum()), int((~bad).sum())),
        latency_ms=round(float(np.median(times_ms)), 3),
        latency_p95_ms=round(float(np.quantile(times_ms, 0.95)), 3),
    )


def balanced(probs: NDArray[np.float64], defective: NDArray[np.bool_]) -> float:
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


def _probs(engine: Engine, pictures: Pictures) -> NDArray[np.float64]:
    return np.array([float(engine.infer(image)[0][0]) for image in pictures.images])


def _times_ms(engine: Engine, image: NDArray[np.uint8], runs: int) -> NDArray[np.float64]:
    for _ in range(WARM_UP):
        engine.infer(image)
    out = np.empty(max(1, runs))
    for index in range(len(out)):
        began_ns = time.perf_counter_ns()
        engine.infer(image)
        out[index] = (time.perf_counter_ns() - began_ns) / 1e6
    return out


def _parameters(folder: Path) -> int:
    """As the training counted them, else as the graph holds them."""
    training = read_manifest(folder / MANIFEST).training
    counted = training.get("parameters") if isinstance(training, dict) else None
    return counted if isinstance(counted, int) else cost_of(folder / "model.onnx").parameters
