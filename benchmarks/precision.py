"""INT8 against FP32 on one processor: interleaved inferences, and which layers ran in INT8.

A, B, A, B ... on the same frames in one process, so that both see the same load; the ratio is the
median over rounds with a bootstrap interval. Also reports the precision in which OpenVINO ran each
convolution, and with --stem how much of the gain comes from the rewritten first convolution
(docs/explanation/decisions/0012-calibration.md) and not from INT8.

    python benchmarks/precision.py FP32_MODEL INT8_MODEL [--rounds 300] [--stem] [--threads 2]

A model is NAME/VERSION of the store or a folder. Frames are rendered strip; their content does
not affect the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.backends import ov
from edgeinspect.domain import ModelSpec, SystemClock
from edgeinspect.imaging import synthetic_strip
from edgeinspect.learning.calibrate.sessions import write_temporary_model
from edgeinspect.learning.calibrate.space_to_depth import space_to_depth_stem
from edgeinspect.learning.evaluate import resolve_model
from edgeinspect.learning.evaluate.open_model import SingleModelStore
from edgeinspect.learning.onnx_graphs.graph import load_model
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import describe_machine


def resolve(model: str) -> ModelSpec:
    store, ref = resolve_model(model, ModelStore())
    return store.resolve(ref)


def engine(spec: ModelSpec, threads: int) -> Any:
    options = ov.Options(model="one", threads=threads)
    return ov.build(options, SystemClock(), store=SingleModelStore(spec))


def interleave(engines: list[Any], frames: list[np.ndarray], rounds: int) -> np.ndarray:
    """Return times (rounds, engines) in ns; the first engine changes every round."""
    times = np.zeros((rounds, len(engines)), np.int64)
    for each in engines:
        for frame in frames:
            each.infer(frame)
    for turn in range(rounds):
        frame = frames[turn % len(frames)]
        order = range(len(engines)) if turn % 2 else reversed(range(len(engines)))
        for index in order:
            started_ns = time.perf_counter_ns()
            engines[index].infer(frame)
            times[turn, index] = time.perf_counter_ns() - started_ns
    return times


def ratio(times: np.ndarray, a: int, b: int, seed: int = 1) -> dict[str, Any]:
    """Return the ratio of the medians of a and b, with a bootstrap interval over rounds."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(times), (1000, len(times)))
    spread = np.median(times[drawn, a], axis=1) / np.median(times[drawn, b], axis=1)
    low, high = np.quantile(spread, (0.025, 0.975))
    return {
        "of_medians": round(float(np.median(times[:, a]) / np.median(times[:, b])), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "of_minima": round(float(times[:, a].min() / times[:, b].min()), 3),
        "median_of_paired": round(statistics.median((times[:, a] / times[:, b]).tolist()), 3),
    }


def milliseconds(names: list[str], nanoseconds: np.ndarray) -> dict[str, float]:
    values = (nanoseconds / 1e6).round(3).tolist()
    return dict(zip(names, values, strict=True))


def precisions(spec: ModelSpec) -> dict[str, int]:
    """Return the number of convolutions and matrix products by OpenVINO's precision."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(str(spec.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind = info["layerType"].astype(str)
        if kind in ("Convolution", "FullyConnected"):
            found[f"{kind} {info['runtimePrecision'].astype(str)}"] += 1
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fp32")
    parser.add_argument("int8")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stem", action="store_true")
    options = parser.parse_args()
    specs = {"fp32": resolve(options.fp32), "int8": resolve(options.int8)}
    if specs["fp32"].shape != specs["int8"].shape:
        sys.exit("the two models take different frames")
    with tempfile.TemporaryDirectory() as folder:
        if options.stem:
            model = load_model(specs["fp32"].path)
            if space_to_depth_stem(model) is not None:
                specs["fp32_stem"] = write_temporary_model(
                    specs["fp32"], model, Path(folder), "stem"
                )
        shape = specs["fp32"].shape
        grey = [
            synthetic_strip.render_strip(31, n, shape.height_px, shape.width_px).image
            for n in range(8)
        ]
        frames = [np.repeat(each[:, :, None], shape.channels, axis=2) for each in grey]
        engines = {name: engine(spec, options.threads) for name, spec in specs.items()}
        times = interleave(list(engines.values()), frames, options.rounds)
        names = list(engines)
        report: dict[str, Any] = {
            "models": {name: str(spec.id) for name, spec in specs.items()},
            "frame": str(shape),
            "rounds": options.rounds,
            "threads": options.threads,
            "processor": describe_machine()["processor"],
            "median_ms": {
                n: round(float(np.median(times[:, i])) / 1e6, 3) for i, n in enumerate(names)
            },
            "fastest_ms": {
                n: round(float(times[:, i].min()) / 1e6, 3) for i, n in enumerate(names)
            },
            "int8_faster_than_fp32": ratio(times, 0, 1),
            "ran_in": {name: precisions(spec) for name, spec in specs.items()},
        }
        if "fp32_stem" in names:
            report["int8_faster_than_fp32_stem"] = ratio(times, 2, 1)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
