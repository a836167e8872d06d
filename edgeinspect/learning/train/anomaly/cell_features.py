"""Descriptors of the cells of an image: a frozen encoder's features at two strides.

Source: Roth et al. 2022, "Towards total recall in industrial anomaly detection" (PatchCore).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.learning.train.encoders import STRIDES, Encoder, take_bgr, take_grey

LEVELS = (2, 3)
"""Of `STRIDES`: 8 and 16 px. Finer ones see texture, coarser ones what the object is."""
FINE_CELL_PX, COARSE_CELL_PX = (STRIDES[level] for level in LEVELS)
_SMALL_FRAME_PX = 384 * 384
_CONTEXT_CELLS = 3
_POSITION_CHANNELS = 4
"""Of each direction. Several, so that none is larger than a limited feature, which would set the
scale of all in INT8."""
_POSITION_WEIGHT = 2.45
"""Of a channel: a distance of half the frame counts as a squared distance of 24."""


@dataclass(frozen=True, slots=True)
class CellMethod:
    """How cells are compared."""

    limit: float = 3.0
    """Standardised values are limited to it: a few extreme channels of good structure do not hide
    many that differ a little, and do not set an INT8 scale."""
    has_position: bool = False
    """A cell is compared with those of about its place: good parts lie alike."""

    @property
    def name(self) -> str:
        """For the manifest and the screen: `limit 2, position`."""
        return f"limit {self.limit:g}" + (", position" if self.has_position else "")


class CellFeatures(nn.Module):
    """Maps frames to one descriptor per cell.

    Args:
        encoder: With its weights loaded, for R, G, B; this reverses it for colour frames, which
            are B, G, R.
        channels: Of the frame: 1 or 3.
        cell_px: Frame pixels per cell, each way: 16, or 8 for frames that are enlarged twice.
    """

    def __init__(self, encoder: Encoder, channels: int, cell_px: int) -> None:
        super().__init__()
        self.encoder = cast(nn.Module, encoder)
        self.cell_px = cell_px
        self.width = sum(encoder.widths[level] for level in LEVELS)
        mean: tuple[float, ...] = encoder.statistics.mean
        deviation: tuple[float, ...] = encoder.statistics.deviation
        if channels == 3:
            take_bgr(self.encoder)
            mean, deviation = mean[::-1], deviation[::-1]
        elif len({*mean}) == len({*deviation}) == 1:
            take_grey(self.encoder)
            mean, deviation = mean[:1], deviation[:1]
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, -1, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return float32 (N, width, ceil(H / cell_px), ceil(W / cell_px)).

        Args:
            image: float32 (N, C, H, W), 0 to 255.
        """
        if (times := COARSE_CELL_PX // self.cell_px) > 1:
            image = F.interpolate(image, scale_factor=times, mode="bilinear", align_corners=False)
        # One channel minus the means of three has three.
        features: Any = self.encoder((image - self.mean) / self.deviation)
        fine, coarse = (local_mean(features[level]) for level in LEVELS)
        return torch.cat([F.avg_pool2d(fine, 2, ceil_mode=True), coarse], 1)


def local_mean(features: Tensor) -> Tensor:
    """Return the mean of each cell and those around it that exist; the shape stays.

    A depthwise convolution: with average pooling a frame of 512x512 took 65 ms under ONNX Runtime
    instead of 60.
    """
    width = features.shape[1]
    kernel = torch.ones(1, 1, _CONTEXT_CELLS, _CONTEXT_CELLS)
    reach = _CONTEXT_CELLS // 2
    sums = F.conv2d(features, kernel.expand(width, -1, -1, -1), padding=reach, groups=width)
    return sums / F.conv2d(torch.ones(1, 1, *features.shape[2:]), kernel, padding=reach)


def choose_cell_px(height_px: int, width_px: int) -> int:
    """Return 16, or 8 for small frames, which are enlarged: a defect of a few pixels is then seen.

    On turned screws at 256x256 the image AUC rises from 0.93 to 0.99. At 512x512 a bank of 9,000
    entries on 16 px cells takes less time than one of 3,000 on 8 px cells, and its pixel AUC is
    higher.
    """
    return FINE_CELL_PX if height_px * width_px < _SMALL_FRAME_PX else COARSE_CELL_PX


class Descriptors(nn.Module):
    """Makes descriptors of features: each channel standardised and limited, maybe with the place.

    Args:
        center: float32 (D,).
        spread: float32 (D,), above 0.
        method: Of the comparison.
    """

    def __init__(self, center: Tensor, spread: Tensor, method: CellMethod) -> None:
        super().__init__()
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        self.method = method

    @property
    def width(self) -> int:
        """Values of a descriptor."""
        return len(self.center) + 2 * _POSITION_CHANNELS * self.method.has_position

    def forward(self, features: Tensor) -> Tensor:
        """Return float32 (h * w, width) of features float32 (1, D, h, w)."""
        cells = features.flatten(2)[0].transpose(0, 1)
        limit = self.method.limit
        values = ((cells - self.center) / self.spread).clamp(-limit, limit)
        if not self.method.has_position:
            return values
        return torch.cat([values, _positions(*features.shape[2:])], dim=1)


def _positions(height: int, width: int) -> Tensor:
    """Return float32 (height * width, 2 * channels) of the place of each cell, from -1 to 1."""
    down = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    right = torch.linspace(-1, 1, width)[None, :].expand(height, width)
    places = torch.stack([down, right], dim=2).reshape(-1, 2) * _POSITION_WEIGHT
    return places.repeat(1, _POSITION_CHANNELS)


def cells_inside(image: Tensor, cell_px: int) -> Tensor:
    """Return which cells lie at least half in the image and not in a letterbox border.

    A border is what lies outside the first and the last row, and column, that is not black.

    Args:
        image: float32 (N, C, H, W), 0 to 255.
        cell_px: Pixels per cell, each way.

    Returns:
        float32 (N, 1, ceil(H / cell_px), ceil(W / cell_px)), 0 or 1.
    """
    # A runtime copies a frame for the maximum of its one channel.
    brightest = image if image.shape[1] == 1 else image.amax(dim=1, keepdim=True)
    rows, columns = (_shares_inside(brightest.amax(dim=side), cell_px) for side in (3, 2))
    # What lies inside is a rectangle, so the share of a cell is the product of those by axis.
    return (rows.unsqueeze(3) * columns.unsqueeze(2) >= 0.5).to(torch.float32)


def _shares_inside(lines: Tensor, cell_px: int) -> Tensor:
    """Return the share of each cell between the first and the last line above black.

    Args:
        lines: float32 (N, 1, L), the brightest value of each row or column.
        cell_px: Lines per cell.

    Returns:
        float32 (N, 1, ceil(L / cell_px)), 0 to 1.
    """
    lit = (lines > 0.5).to(torch.float32)
    before = torch.cumsum(lit, dim=2)
    after = lit.sum(dim=2, keepdim=True) - before + lit
    inside = ((before > 0.5) & (after > 0.5)).to(torch.float32)
    # Lines that the frame lacks for whole cells are padding, no border.
    padded = F.pad(inside, (0, -lines.shape[2] % cell_px), value=1.0)
    return padded.unflatten(2, (-1, cell_px)).mean(dim=3)
