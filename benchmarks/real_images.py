"""Real images through the daemon, and the same images through the model directly.

Runs `edgeinspect run` as a child process on the test split of an indexed folder (images/, masks/,
index.csv), triggers one frame per image, and computes confusion counts (gate) or the mIoU
(segmenter, from the published masks) from the received verdicts. Then runs the ONNX graph on the
same images without a line, and compares. Both must agree.

    python benchmarks/real_images.py --data DIR --model STORE/NAME/VERSION
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.client import Subscriber, send_request
from edgeinspect.domain import Decision, ModelKind, ModelSpec, Verdict
from edgeinspect.imaging import decode_classes, upsample_class_map
from edgeinspect.learning.datasets import ImageArrays, load_arrays, open_dataset
from edgeinspect.learning.evaluate import (
    classifier_scores,
    confusion_matrix,
    iou_and_dice,
    wilson_interval,
)
from edgeinspect.learning.onnx_graphs.session import run_graph
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.wire import TriggerRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--backend", default="ov")
    parser.add_argument("--port", type=int, default=5690)
    options = parser.parse_args()
    spec = ModelStore().resolve(str(options.model.absolute()))
    data = open_dataset(options.data)
    images = load_arrays(
        data,
        data.in_splits(options.split),
        height_px=spec.shape.height_px,
        width_px=spec.shape.width_px,
        channels=spec.shape.channels,
    )
    verdicts, masks = run_through_daemon(options, spec, images)
    outputs = run_graph(spec.path, images.images)
    if spec.kind is ModelKind.GATE:
        report = compare_gate(spec, images, verdicts, outputs)
    else:
        report = compare_segmenter(spec, images, masks, outputs)
    reasons: dict[str, int] = {}
    for verdict in verdicts:
        reasons[verdict.reason.value] = reasons.get(verdict.reason.value, 0) + 1
    print(json.dumps({"pictures": len(images), "reasons": reasons, **report}, indent=2))


def run_through_daemon(
    options: argparse.Namespace, spec: ModelSpec, images: ImageArrays
) -> tuple[list[Verdict], list[np.ndarray]]:
    """Return the published verdict and class map of every image."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), options, spec, images)
        child = subprocess.Popen([sys.executable, "-m", "edgeinspect", "run", str(config)])
        try:
            with Subscriber(f"tcp://127.0.0.1:{options.port}") as listener:
                return trigger_each(options, listener, images)
        finally:
            child.terminate()
            child.wait(20)


def trigger_each(
    options: argparse.Namespace, listener: Subscriber, images: ImageArrays
) -> tuple[list[Verdict], list[np.ndarray]]:
    verdicts, masks = [], []
    while listener.receive(20_000) is None:
        raise SystemExit("the daemon does not start")
    for name in images.names:
        answer = send_request(
            f"tcp://127.0.0.1:{options.port + 1}", TriggerRequest(camera="top", part_id=name[:64])
        )
        assert answer.accepted, answer.problem
        while True:
            got = listener.receive(20_000)
            assert got is not None, f"no verdict for {name}"
            if isinstance(got.message, Verdict):
                assert got.message.label == name
                break
        verdicts.append(got.message)
        if got.mask is not None:
            mask = got.mask
            masks.append(decode_classes(mask.runs, mask.height_px, mask.width_px))
    return verdicts, masks


def write_config(
    folder: Path, options: argparse.Namespace, spec: ModelSpec, images: ImageArrays
) -> Path:
    (folder / "names.txt").write_text("\n".join(images.names))
    gate = spec.kind is ModelKind.GATE
    limits: dict[str, Any] = dict(spec.thresholds)
    decide: dict[str, Any] = {}
    if gate:
        at = limits["degraded"]
        decide["gate"] = {
            "suspect_at": at,
            "reject_at": at,
            "degraded_reject_at": at,
            "reject_code": 1,
        }
    else:
        decide["classes"] = {
            name: {
                "score": limits[name]["score"],
                "area_px": round(limits[name]["area_px"]),
                "severity": 1,
                "reject_code": 1 + index,
            }
            for index, name in enumerate(spec.classes)
        }
    config = {
        "schema": 1,
        "line": "real",
        "budget_ms": 5000,
        "cameras": {
            "top": {
                "type": "folder",
                "path": str((options.data / "images").absolute()),
                "names": str(folder / "names.txt"),
                "pace": "trigger",
            }
        },
        "capture": {"wrong_shape": "letterbox"},
        "engines": {
            "gate" if gate else "segmenter": {
                "type": options.backend,
                "model": str(options.model.absolute()),
            }
        },
        "optics": {"mm_per_px_x": 0.1, "mm_per_px_y": 0.1},
        "decide": decide,
        "publish": {
            "verdicts": f"tcp://127.0.0.1:{options.port}",
            "replay": f"tcp://127.0.0.1:{options.port + 1}",
            "mask": not gate,
        },
        "spool": {"folder": str(folder)},
    }
    path = folder / "line.yaml"
    path.write_text(json.dumps(config))
    return path


def compare_gate(
    spec: ModelSpec, images: ImageArrays, verdicts: list[Verdict], outputs: list[list[Any]]
) -> dict[str, Any]:
    at = float(spec.thresholds["degraded"])  # type: ignore[arg-type]
    direct = np.array([float(output[0][0]) for output in outputs])
    daemon = np.array([verdict.defect_prob for verdict in verdicts], float)
    figures = classifier_scores(daemon, images.defective, (0.01, 0.05))
    bad = images.defective
    rejected = np.array([verdict.decision is Decision.REJECT for verdict in verdicts])
    return {
        "threshold": at,
        "daemon": counts(rejected, bad),
        "direct": counts(direct >= at, bad),
        "largest_probability_difference": float(np.abs(direct - daemon).max()),
        "auc": round(figures.auc, 4),
        "recall_at_false_rejects": {
            str(rate): [round(figures.recall[rate], 4), *figures.recall_interval[rate]]
            for rate in figures.recall
        },
        "agree": counts(rejected, bad) == counts(direct >= at, bad),
    }


def counts(rejected: np.ndarray, bad: np.ndarray) -> dict[str, Any]:
    hits = int((rejected & bad).sum())
    return {
        "defective_rejected": hits,
        "defective_passed": int((~rejected & bad).sum()),
        "clean_rejected": int((rejected & ~bad).sum()),
        "clean_passed": int((~rejected & ~bad).sum()),
        "recall_interval": [round(v, 4) for v in wilson_interval(hits, int(bad.sum()))],
    }


def compare_segmenter(
    spec: ModelSpec, images: ImageArrays, masks: list[np.ndarray], outputs: list[list[Any]]
) -> dict[str, Any]:
    if len(masks) != len(images):
        raise SystemExit(f"{len(masks)} masks came for {len(images)} pictures")
    height, width = images.masks.shape[1:]
    out: dict[str, Any] = {}
    for name, maps in (("daemon", masks), ("direct", [output[0][0] for output in outputs])):
        whole = [upsample_class_map(found, spec.output_stride, height, width) for found in maps]
        iou, dice = iou_and_dice(confusion_matrix(whole, images.masks, len(spec.classes)))
        names = ["background", *spec.classes]
        out[name] = {
            "miou": round(float(np.mean(iou)), 4),
            "iou": dict(zip(names, (round(v, 4) for v in iou), strict=True)),
            "dice": dict(zip(names, (round(v, 4) for v in dice), strict=True)),
        }
    differing = sum(
        int((mine != output[0][0]).sum()) for mine, output in zip(masks, outputs, strict=True)
    )
    out["differing_cells"] = differing
    out["agree"] = abs(out["daemon"]["miou"] - out["direct"]["miou"]) < 0.001
    return out


if __name__ == "__main__":
    main()
