"""The shipped models on TensorRT: outputs, speed and precision."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from edgeinspect import registry
from edgeinspect.backends import trt
from edgeinspect.domain.clock import SystemClock
from edgeinspect.imaging.synthetic_strip import render_strip
from edgeinspect.learning.conversion import plans as build
from edgeinspect.storage.model_store import ModelStore
from tests.gpu.verify import NotAvailableError, measure_latency

ROOT = Path(__file__).resolve().parents[2]
IMAGE_COUNT = 16
UNSEEN_SEED = 6007
TOLERANCE = {"fp32": 2e-3, "fp16": 1e-2}
CELLS = {"fp32": 1e-3, "fp16": 5e-3}
"""Share of class-map cells that may differ from ONNX Runtime's."""


def measure(tensorrt: Any) -> dict[str, Any]:
    """Compare every model, precision and launch option with ONNX Runtime."""
    reason = registry.missing_reason("backend", "ort")
    if reason:
        raise NotAvailableError(reason)
    figures: dict[str, Any] = {"tensorrt": tensorrt.__version__}
    with tempfile.TemporaryDirectory() as folder:
        store = create_fp16_store(Path(folder) / "engines")
        for name in ("strip-gate", "strip-segmenter"):
            for version, precision in ((1, "fp32"), (2, "fp16")):
                figures[f"{name} {precision}"] = _one(
                    store, f"{name}/{version}", precision, Path(folder) / "plans"
                )
    return figures


def create_fp16_store(root: Path) -> ModelStore:
    """Copy the shipped models, each with an FP16 version 2."""
    import onnx

    from edgeinspect.learning.onnx_graphs.fp16 import convert_to_fp16

    # The shipped version 2 is INT8; replace it by an FP16 version.
    shutil.copytree(ROOT / "engines", root, ignore=shutil.ignore_patterns("2"))
    for name in ("strip-gate", "strip-segmenter"):
        version = root / name / "2"
        version.mkdir()
        data = convert_to_fp16(
            onnx.load(root / name / "1" / "model.onnx")
        ).model.SerializeToString()
        (version / "model.onnx").write_bytes(data)
        manifest = yaml.safe_load((root / name / "1" / "manifest.yaml").read_text())
        manifest |= {
            "version": 2,
            "precision": "fp16",
            "size_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        (version / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return ModelStore(root)


def _one(store: ModelStore, ref: str, precision: str, plans: Path) -> dict[str, Any]:
    ort = registry.load_plugin("backend", "ort")
    parent = ref.partition("/")[0] + "/1"
    reference = ort.build(ort.Options(model=parent), SystemClock(), store=store)
    images = [
        np.ascontiguousarray(render_strip(UNSEEN_SEED, i).image[:, :, None])
        for i in range(IMAGE_COUNT)
    ]
    expected = [[array.copy() for array in reference.infer(image)] for image in images]
    reference.close()
    figures: dict[str, Any] = {}
    ways = {
        "copied": {"cuda_graph": False},
        "graph": {},
        "graph, spin": {"wait": "spin"},
        "mapped, graph": {"input": "mapped"},
    }
    for way, changes in ways.items():
        options = trt.Options(model=ref, plans=str(plans), **changes)
        engine = trt.build(options, SystemClock(), store=store)
        for image, want in zip(images, expected, strict=True):
            for actual, target in zip(engine.infer(image), want, strict=True):
                _check_agreement(actual, target, precision, f"{ref}, {way}")
        figures[way] = measure_latency(lambda engine=engine: engine.infer(images[0]))
        engine.close()
    task = build.PlanRequest(ref, trt.Options(model=ref, plans=str(plans)), store)
    plan = build.build_plan(task)
    layers = build.inspect_plan(plan.path)
    figures["build_s"] = plan.manifest.build_s
    figures["typing"] = plan.manifest.key.typing
    figures["share"] = {
        kind: build.precision_ratio(layers, kind) for kind in ("int8", "fp16", "fp32")
    }
    return figures


def _check_agreement(actual: np.ndarray, reference: np.ndarray, precision: str, where: str) -> None:
    if actual.dtype == np.uint8:
        changed = float((actual != reference).mean())
        assert changed <= CELLS[precision], f"{where}: {changed:.2%} of the cells differ"
        return
    scale = max(1.0, float(np.abs(reference).max()))
    worst = float(np.abs(actual - reference).max()) / scale
    assert worst <= TOLERANCE[precision], f"{where}: differs by {worst:.2g}"


def run_line() -> dict[str, Any]:
    """Run a complete line with both models on TensorRT; exit 0 means that its guarantees hold."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "demo.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "edgeinspect",
                "demo",
                "--backend",
                "trt",
                "--frames",
                "1000",
                "--rate",
                "50",
                "--budget-ms",
                "20",
                "--json-file",
                str(report),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-1000:]
        figures: dict[str, Any] = json.loads(report.read_text())
    return figures
