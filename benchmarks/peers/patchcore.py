"""Anomalib's PatchCore on a set in MVTec AD's layout: accuracy and minutes.

    python3 -m venv patchcore
    patchcore/bin/pip install torch torchvision anomalib opencv-python-headless
    PYTHONPATH=. patchcore/bin/python benchmarks/peers/patchcore.py SET [--size 256] [--ratio 0.01]

Anomalib's backbones are downloaded. So that both methods build on the same features, and without
a network, its extractor is replaced by this project's encoder Lite0 with packaged weights, at the
same strides 8 and 16. Everything else is Anomalib's: pooling, greedy coreset, scores and map.
The same images go through `edgeinspect train anomaly --size HxW` and `edgeinspect evaluate`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from edgeinspect.learning.train.encoders import build_encoder, find_pretrained, load_encoder

_LEVELS = {"fine": 2, "coarse": 3}
_BATCH = 8


class _Lite0(nn.Module):
    """Features by name, as Anomalib's extractor gives them."""

    def __init__(self) -> None:
        super().__init__()
        encoder = build_encoder("lite0")
        weights = find_pretrained("lite0", None)
        assert weights is not None
        load_encoder(encoder, weights)
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder.eval()
        self.mean = torch.tensor(encoder.statistics.mean).reshape(1, 3, 1, 1)
        self.deviation = torch.tensor(encoder.statistics.deviation).reshape(1, 3, 1, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.encoder((image - self.mean) / self.deviation)
        return {name: features[level] for name, level in _LEVELS.items()}


def _read(path: Path, side: int, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    assert image is not None, path
    mode = cv2.INTER_AREA if flags == cv2.IMREAD_COLOR else cv2.INTER_NEAREST
    return cv2.resize(image, (side, side), interpolation=mode)


def _batch(paths: list[Path], side: int) -> Tensor:
    images = np.stack([_read(path, side)[:, :, ::-1] for path in paths])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--ratio", type=float, default=0.01)
    args = parser.parse_args()
    torch.manual_seed(1)
    train = sorted((args.set / "train" / "good").glob("*.*"))
    test = sorted((args.set / "test").glob("*/*.*"))
    model = PatchcoreModel(layers=[*_LEVELS], backbone="resnet18", pre_trained=False)
    model.feature_extractor = _Lite0()

    start = time.monotonic()
    model.train()
    model.feature_extractor.eval()
    with torch.no_grad():
        for at in range(0, len(train), _BATCH):
            model(_batch(train[at : at + _BATCH], args.size))
    model.subsample_embedding(args.ratio)
    minutes = (time.monotonic() - start) / 60

    model.eval()
    scores, truth, pixels, pixel_truth, took = [], [], [], [], []
    with torch.no_grad():
        for path in test:
            batch = _batch([path], args.size)
            start = time.monotonic()
            result = model(batch)
            took.append(time.monotonic() - start)
            scores.append(float(result.pred_score))
            defective = path.parent.name != "good"
            truth.append(defective)
            mask = np.zeros((args.size, args.size), bool)
            if defective:
                name = args.set / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
                mask = _read(name, args.size, cv2.IMREAD_GRAYSCALE) > 0
            pixels.append(result.anomaly_map[0, 0].numpy().astype(np.float32))
            pixel_truth.append(mask)
    document = {
        "images": [len(train), len(test)],
        "size": args.size,
        "entries": len(model.memory_bank),
        "train_minutes": round(minutes, 1),
        "image_auroc": round(float(roc_auc_score(truth, scores)), 4),
        "pixel_auroc": round(
            float(roc_auc_score(np.ravel(pixel_truth), np.ravel(np.stack(pixels)))), 4
        ),
        "ms_per_frame": round(1e3 * float(np.median(took)), 1),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
