"""From descriptors to the anomaly map, the image's score, and the outputs of the contract."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.domain import (
    GOOD_PARTS_CONTRACT,
    HEAT_MAP_CELL_PX,
    ModelKind,
    model_outputs,
)
from edgeinspect.learning.train.anomaly.cell_features import (
    FINE_CELL_PX,
    CellFeatures,
    Descriptors,
    cells_inside,
)
from edgeinspect.learning.train.anomaly.memory_bank import MemoryBank

SMOOTHING_CELLS = 0.75
"""Deviation of the Gaussian that an anomaly map is smoothed by."""
_TOP_RATIO = 1 / 100
_MAX_TOP_CELLS = 40
OUTPUT_NAMES = model_outputs(ModelKind.SEGMENTER, GOOD_PARTS_CONTRACT)
FEATURES_NAME = "cell_features"
"""Of a tensor inside the graph. What computes it stays in float in an INT8 version: on *screw* the
encoder in int8 costs 0.05 AUC, the bank alone nothing."""


class AnomalyMap(nn.Module):
    """Maps descriptors to how far each cell is from all good ones, smoothed.

    Args:
        descriptors: Of the features.
        bank: The good ones.
    """

    def __init__(self, descriptors: Descriptors, bank: MemoryBank) -> None:
        super().__init__()
        self.descriptors = descriptors
        self.bank = bank
        reach = math.ceil(3 * SMOOTHING_CELLS)
        steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
        weights = torch.exp(-0.5 * (steps / SMOOTHING_CELLS).square())
        self.register_buffer("blur", weights / weights.sum())

    def forward(self, features: Tensor, inside: Tensor) -> Tensor:
        """Return float32 (1, 1, h, w), 0 outside.

        Args:
            features: float32 (1, D, h, w).
            inside: float32 (1, 1, h, w), 0 or 1.
        """
        height, width = features.shape[2:]
        squared = self.bank(self.descriptors(features))
        # The root of a small difference of large numbers is mostly rounding: it begins at 1.
        distance = ((squared.clamp(min=0.0) + 1.0).sqrt() - 1.0).reshape(1, 1, height, width)
        # Cells outside count as good ones. A mean over those inside would give full weight to the
        # cells at the border, whose features are of the encoder's padding: on frames of 256x256
        # it cost 0.08 AUC of turned screws and 0.04 of magnetic tiles.
        return self._smooth(distance * inside) * inside

    def _smooth(self, values: Tensor) -> Tensor:
        reach = len(self.blur) // 2
        down = F.conv2d(values, self.blur.reshape(1, 1, -1, 1), padding=(reach, 0))
        return F.conv2d(down, self.blur.reshape(1, 1, 1, -1), padding=(0, reach))


def image_score(values: Tensor) -> Tensor:
    """Return float32 (1,): the mean of the largest cells of an anomaly map (1, 1, h, w).

    One in 100, at most 40: a single cell is noise, and a small defect has no more.
    """
    count = min(_MAX_TOP_CELLS, math.ceil(values.shape[2] * values.shape[3] * _TOP_RATIO))
    return values.flatten(1).topk(count, dim=1).values.mean(dim=1)


@dataclass(frozen=True, slots=True)
class ScoreScale:
    """The monotone map from scores to 0 to 1.

    p = (1 + u / (1 + |u|)) / 2 with u = (score - threshold) / unit. Unlike a logistic function it
    does not reach 1 in float32, so that gross defects keep their order.
    """

    threshold: float
    """The score at which p is 0.5."""
    unit: float
    """Above 0."""

    def probability(self, values: Tensor) -> Tensor:
        """Return the values' place on the scale, 0 to 1."""
        u = (values - self.threshold) / self.unit
        return 0.5 + 0.5 * u / (1.0 + u.abs())


class AnomalyGraph(nn.Module):
    """A good-parts model under contract 3: uint8 (1, H, W, C) to the outputs and the map.

    Args:
        features: The encoder's.
        anomaly_map: With the bank.
        scale: Of the score.
        stride: Frame pixels per cell of the class map: 1, 2, 4 or 8.
    """

    def __init__(
        self, features: CellFeatures, anomaly_map: AnomalyMap, scale: ScoreScale, stride: int
    ) -> None:
        super().__init__()
        self.features = features
        self.anomaly_map = anomaly_map
        self.scale = scale
        self.stride = stride

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors `OUTPUT_NAMES`, the anomaly map and the features."""
        frame = image.to(torch.float32).permute(0, 3, 1, 2)
        inside = cells_inside(frame, self.features.cell_px)
        features = self.features(frame)
        values = self.anomaly_map(features, inside)
        prob = self.scale.probability(image_score(values))
        by_cell = self.scale.probability(values) * inside
        heat = by_cell
        if (fewer := HEAT_MAP_CELL_PX // self.features.cell_px) > 1:
            heat = F.max_pool2d(heat, fewer, ceil_mode=True)
        heat_map = (heat[:, 0] * 255.0).round().to(torch.uint8)
        finer = self.features.cell_px // self.stride
        if finer > 1:
            height, width = (side // self.stride for side in frame.shape[2:])
            by_cell = F.interpolate(
                by_cell, scale_factor=float(finer), mode="bilinear", align_corners=False
            )[:, :, :height, :width]
        is_unknown = (by_cell[:, 0] >= 0.5).to(torch.float32)
        cells = is_unknown.sum(dim=(1, 2)).reshape(1, 1)
        score = ((by_cell[:, 0] * is_unknown).sum(dim=(1, 2)) / cells[0].clamp(min=1.0)).reshape(
            1, 1
        )
        area_px = cells * float(self.stride**2)
        outputs = is_unknown.to(torch.uint8), area_px, score, prob, heat_map
        return (*outputs, by_cell[:, 0], features)


def output_stride(height_px: int, width_px: int) -> int:
    """Return the largest of 8, 4, 2, 1 that divides both sides of the frame."""
    return math.gcd(height_px, width_px, FINE_CELL_PX)
