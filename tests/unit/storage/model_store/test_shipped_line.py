"""The models in engines/: what their manifests say, held against the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.clock import SystemClock
from edgeinspect.domain.model import Precision
from edgeinspect.domain.verdict import Decision
from edgeinspect.imaging.blobs import find_blobs
from edgeinspect.imaging.synthetic_strip import render_strip
from edgeinspect.pipeline.inspection.decision import (
    ClassLimits,
    DecisionRules,
    GateLimits,
    decide_by_gate,
    decide_by_regions,
)
from edgeinspect.registry import load_plugin, plugin_names
from edgeinspect.storage.model_store import ModelStore, read_manifest
from tests import needs

ROOT = Path(__file__).parents[4] / "engines"
UNSEEN_SEED = 4711


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("name", ["strip-gate", "strip-segmenter"])
def test_manifest_and_file_agree(name: str, version: str) -> None:
    spec = ModelStore(ROOT).resolve(f"{name}/{version}")
    assert spec.shape.dims == (256, 1600, 1)
    assert spec.path.stat().st_size < 5_000_000
    assert spec.thresholds
    assert spec.precision is (Precision.FP32 if version == "1" else Precision.INT8)


@pytest.mark.parametrize("name", ["strip-gate", "strip-segmenter"])
def test_the_int8_version_names_its_parent_and_has_reports(name: str) -> None:
    store = ModelStore(ROOT)
    parent, child = store.resolve(f"{name}/1"), store.resolve(f"{name}/2")
    assert child.thresholds == parent.thresholds
    assert store.resolve(name).id == child.id
    manifest = read_manifest(child.path.parent / "manifest.yaml")
    assert manifest.training["parent"]["sha256"] == parent.id.sha256
    report = json.loads((ROOT.parent / "calibration" / name / "2" / "report.json").read_text())
    assert report["accepted"]
    assert report["id"] == child.id.calibration
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=(pytest.mark.gpu,) if name == "trt" else ())
        for name in plugin_names("backend")
    ],
)
def test_the_line_on_unseen_images(backend: str, version: str) -> None:
    module = load_plugin("backend", backend)
    for package, _extra in getattr(module, "REQUIRES", ()):
        needs.library(package)
    store = ModelStore(ROOT)
    gate, segmenter = (
        module.build(module.Options(model=f"{name}/{version}"), SystemClock(), store=store)
        for name in ("strip-gate", "strip-segmenter")
    )
    limits = gate.spec.thresholds
    rules = DecisionRules(
        GateLimits(limits["suspect"], limits["reject"], limits["degraded"], 1),
        {
            index: ClassLimits(name, rule["score"], rule["area_px"], 1, 1)
            for index, (name, rule) in enumerate(segmenter.spec.thresholds.items(), start=1)
        },
        segmenter.spec.output_stride,
        0.5,
        0.5,
        8,
    )
    wrong = 0
    for index in range(60):
        strip = render_strip(UNSEEN_SEED, index)
        image = np.ascontiguousarray(strip.image[:, :, None])
        prob = float(gate.infer(image)[0][0])
        finding = decide_by_gate(prob, rules)
        if finding is None:
            class_map, area, score = segmenter.infer(image)
            finding = decide_by_regions(prob, find_blobs(class_map[0], area[0], score[0]), rules)
        wrong += (finding.decision is Decision.REJECT) != strip.has_defect
    gate.close()
    segmenter.close()
    assert wrong <= 4, f"{wrong} of 60 unseen images were inspected wrongly"
