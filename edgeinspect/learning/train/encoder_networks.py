"""The gate and the segmenter on an encoder, mostly a pretrained one.

Both take raw grey levels as float32 (N, C, H, W), 0 to 255, C 1 or 3 (blue, green, red).
Source: docs/explanation/decisions/0031-pretrained-encoders.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeinspect.learning.train.encoders import STRIDES, Encoder, take_bgr
from edgeinspect.learning.train.frame_input import FrameInput
from edgeinspect.learning.train.networks import ConvBnRelu, DecoderBlock

ENCODER_CHANNELS = 3
"""A grey frame is repeated, so that colour weights apply unchanged."""
_GATE_LEVELS = (1, 2, 3, 4)
"""Strides 4 to 32."""
_POOLINGS = 4
_MAP_WIDTH = 32
_DECODER_WIDTHS = (32, 48, 64, 96)
"""Channels of the decoder at strides 2, 4, 8 and 16; multiples of 16 suit INT8 kernels."""
_PEAKS = 8
"""Cells averaged for the peak of the map, since a single cell is noisy."""


class EncoderInput(nn.Module):
    """Normalises a frame as the encoder expects it, and holds the encoder."""

    def __init__(self, encoder: Encoder, channels: int, *, ignore_black: bool) -> None:
        super().__init__()
        self.channels = channels
        self.adapt = FrameInput(ENCODER_CHANNELS, ignore_black=ignore_black)
        self.encoder = cast(nn.Module, encoder)

    def use_pretrained(self, encoder: Encoder) -> None:
        """Normalise as its weights, which have been loaded, were trained with."""
        mean = torch.tensor(encoder.statistics.mean)
        deviation = torch.tensor(encoder.statistics.deviation)
        if self.channels == ENCODER_CHANNELS:
            take_bgr(self.encoder)
            mean, deviation = mean.flip(0), deviation.flip(0)
        self.adapt.use_fixed_statistics(mean, deviation)

    def forward(self, image: Tensor, multiple: int = 1) -> tuple[Tensor, ...]:
        """Return the features of a frame, padded right and bottom to a multiple of pixels."""
        height, width = image.shape[2], image.shape[3]
        if self.channels != ENCODER_CHANNELS:
            image = image.expand(-1, ENCODER_CHANNELS, -1, -1)
        x = self.adapt(image)
        right, bottom = -width % multiple, -height % multiple
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom))
        return cast("tuple[Tensor, ...]", self.encoder(x))


class FrozenNorms(nn.Module):
    """A network whose batch norms keep their statistics in training.

    A few thousand images of one part would replace statistics of a million photographs, and
    a batch of crops has others than whole frames.
    """

    def train(self, mode: bool = True) -> FrozenNorms:
        super().train(mode)
        body = self.get_submodule("body")
        if cast(Any, body).adapt.has_fixed_statistics:
            for module in body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


class EncoderGate(FrozenNorms):
    """A classifier on statistics of the features at four strides, with a map of defects.

    The mean, maximum, minimum and deviation of each channel are what a linear classifier on
    frozen features needs (`frozen_head.py` fits it); the map at stride 8 is trained against
    masks where there are any, and starts without influence on the logits.

    Args:
        encoder: With features at `STRIDES`.
        channels: Of the frame.
        kinds: 0: one logit, of a defect; else logits of good and of each kind.
        ignore_black: Pixels of grey level 0 are letterbox padding, which no statistic includes.
    """

    def __init__(
        self, encoder: Encoder, channels: int, kinds: int = 0, *, ignore_black: bool = False
    ) -> None:
        super().__init__()
        self.kinds = kinds
        self.is_fitted = False
        """Whether `fc` decides by frozen features already."""
        self.body = EncoderInput(encoder, channels, ignore_black=ignore_black)
        outputs = kinds + 1 if kinds else 1
        width = _POOLINGS * sum(encoder.widths[level] for level in _GATE_LEVELS)
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_deviation", torch.ones(width))
        self.fc = nn.Linear(width, outputs)
        self.drop = nn.Dropout(0.1)
        self.laterals = nn.ModuleList(
            nn.Conv2d(encoder.widths[level], _MAP_WIDTH, 1) for level in (2, 3, 4)
        )
        self.coarse = nn.Sequential(ConvBnRelu(_MAP_WIDTH, _MAP_WIDTH), nn.Conv2d(_MAP_WIDTH, 1, 1))
        self.extra = nn.Linear(3, outputs)
        nn.init.zeros_(self.extra.weight)
        nn.init.zeros_(self.extra.bias)

    def statistics(self, image: Tensor) -> Tensor:
        """Return the statistics that `fc` classifies, float32 (N, F), not standardised."""
        return self._pool(image, self.body(image))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,) or logits (N, K+1), coarse logits (N, 1, H/8, W/8))."""
        features = self.body(image)
        pooled = (self._pool(image, features) - self.feature_mean) / self.feature_deviation
        coarse = self._defect_map(features)
        flat = coarse.flatten(1)
        peaks = flat.topk(min(_PEAKS, flat.shape[1]), dim=1).values
        area = torch.log(torch.sigmoid(flat.float()).mean(dim=1, keepdim=True) + 1e-5)
        of_map = torch.cat([peaks[:, :1], peaks.mean(dim=1, keepdim=True), area], dim=1)
        logits = self.fc(self.drop(pooled)) + self.extra(of_map)
        return (logits if self.kinds else logits.squeeze(1)), coarse

    def _defect_map(self, features: tuple[Tensor, ...]) -> Tensor:
        finest = features[2]
        size = finest.shape[2:]
        x = self.laterals[0](finest)
        for lateral, feature, scale in zip(self.laterals[1:], features[3:], (2, 4), strict=False):
            up = F.interpolate(lateral(feature), scale_factor=float(scale), mode="nearest")
            x = x + up[:, :, : size[0], : size[1]]
        return self.coarse(F.relu(x))

    def _pool(self, image: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        pooled = []
        for level in _GATE_LEVELS:
            x = features[level].float()
            if not self.body.adapt.ignore_black:
                mean = x.mean(dim=(2, 3))
                square = (x * x).mean(dim=(2, 3))
                high, low = x.amax(dim=(2, 3)), -(-x).amax(dim=(2, 3))
            else:
                inside = _inside(image, STRIDES[level], x.shape[2], x.shape[3])
                count = inside.sum(dim=(2, 3)).clamp(min=1.0)
                outside = (inside - 1) * 1e4
                mean = (x * inside).sum(dim=(2, 3)) / count
                square = (x * x * inside).sum(dim=(2, 3)) / count
                high, low = (x + outside).amax(dim=(2, 3)), -(outside - x).amax(dim=(2, 3))
            deviation = torch.sqrt((square - mean * mean).clamp(min=0) + 1e-6)
            pooled += [mean, high, low, deviation]
        return torch.cat(pooled, dim=1)

    def parameter_groups(self) -> Iterator[tuple[float, list[nn.Parameter]]]:
        """Yield (factor of the learning rate, parameters)."""
        yield from _encoder_groups(self, self.body, slow=(self.fc,))


def _inside(image: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Return which cells show the part and not letterbox padding, float32 (N, 1, h, w)."""
    part = (image.amax(dim=1, keepdim=True) > 0.5).to(torch.float32)
    cells = F.max_pool2d(part, stride, ceil_mode=True)
    return cells[:, :, :height, :width]


class EncoderUNet(FrozenNorms):
    """The ResUNet's decoder on an encoder; logits have stride 2 or 4.

    Args:
        encoder: With features at `STRIDES`.
        classes: Number of defect classes, without background.
        channels: Of the frame.
        stride: Frame pixels per class-map cell.
    """

    def __init__(self, encoder: Encoder, classes: int, channels: int, stride: int) -> None:
        super().__init__()
        if stride not in (2, 4):
            raise ValueError("stride is 2 or 4")
        self.stride = stride
        self.body = EncoderInput(encoder, channels, ignore_black=False)
        first = STRIDES.index(stride)
        widths = encoder.widths
        self.decoder = nn.ModuleList()
        inputs = widths[-1]
        for level in range(len(widths) - 2, first - 1, -1):
            outputs = _DECODER_WIDTHS[level]
            self.decoder.append(DecoderBlock(inputs, widths[level], outputs, light=level == first))
            inputs = outputs
        self.logits = nn.Conv2d(inputs, classes + 1, 1)
        self.deep = nn.Conv2d(_DECODER_WIDTHS[first + 1], classes + 1, 1)
        self.presence = nn.Linear(2 * widths[-1], classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (N, K+1, h, w), deep logits at twice the stride, presence (N, K))."""
        height, width = image.shape[2], image.shape[3]
        features = self.body(image, multiple=STRIDES[-1])
        x = features[-1]
        presence = self.presence(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        deep = x
        for step, up in enumerate(self.decoder):
            x = up(x, features[-2 - step])
            if step == len(self.decoder) - 2:
                deep = self.deep(x)
        logits = self.logits(x)
        h, w = -(-height // self.stride), -(-width // self.stride)
        return logits[:, :, :h, :w], deep, presence

    def parameter_groups(self) -> Iterator[tuple[float, list[nn.Parameter]]]:
        """Yield (factor of the learning rate, parameters)."""
        yield from _encoder_groups(self, self.body)


ENCODER_RATE = 0.3
"""Learning rate of pretrained weights relative to new ones."""


def _encoder_groups(
    net: nn.Module, body: EncoderInput, slow: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[float, list[nn.Parameter]]]:
    rate = ENCODER_RATE if body.adapt.has_fixed_statistics else 1.0
    known = [p for module in (body, *slow) for p in module.parameters()]
    ids = {id(p) for p in known}
    yield rate, known
    yield 1.0, [p for p in net.parameters() if id(p) not in ids]
