"""The networks of this project: gates (small, map, CNN) and the ResUNet segmenter.

All are shaped to quantise: BN and ReLU, additive skips, nearest upsampling, channels in
multiples of 16, no attention, no SiLU, no deconvolution. They take raw grey levels as
float32 (N, C, H, W), 0 to 255, and standardise each image themselves, so that training and
line cannot differ.
Source: docs/explanation/decisions/0006-networks.md
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PerImageStandardize(nn.Module):
    """Each image minus its mean, divided by its deviation; in float32.

    With `ignore_black` a pixel of grey level 0 counts as letterbox padding: it does not
    contribute to mean and deviation and comes out as 0. Otherwise the amount of padding would
    change an image's contrast.
    """

    def __init__(self, ignore_black: bool = False) -> None:
        super().__init__()
        self.ignore_black = ignore_black

    def forward(self, image: Tensor) -> Tensor:
        if self.ignore_black:
            mask = (image > 0.5).to(torch.float32)
            count = mask.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
            centred = (image - (image * mask).sum(dim=(1, 2, 3), keepdim=True) / count) * mask
            variance = (centred * centred).sum(dim=(1, 2, 3), keepdim=True) / count
            return centred / torch.sqrt(variance + 25.0)
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        centred = image - mean
        variance = (centred * centred).mean(dim=(1, 2, 3), keepdim=True)
        return centred / torch.sqrt(variance + 25.0)


class ConvBnRelu(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions plus an identity, or a strided 1x1 where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvBnRelu(inputs, outputs, 3, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.second(self.first(x))) + self.skip(x))


class SmallGate(nn.Module):
    """A small residual classifier with a coarse defect map.

    The map (stride 16) is trained against the masks where there are any, and its maximum is
    one of the classifier's features: a few defect pixels in 400,000 are too weak a signal in
    the average alone.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (16, 32, 32, 64, 96),
        *,
        ignore_black: bool = False,
    ) -> None:
        super().__init__()
        stem, second, third, fourth, fifth = widths
        self.standardise = PerImageStandardize(ignore_black)
        self.stem = ConvBnRelu(channels, stem, 5, 2)
        self.to4 = ConvBnRelu(stem, second, 3, 2)
        self.to8 = ResidualBlock(second, third, 2)
        self.to16 = nn.Sequential(ResidualBlock(third, fourth, 2), ResidualBlock(fourth, fourth))
        self.to32 = ResidualBlock(fourth, fifth, 2)
        self.coarse = nn.Conv2d(fourth, 1, 1)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * fifth + 2, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, H/16, W/16))."""
        x = self.to16(self.to8(self.to4(self.stem(self.standardise(image)))))
        coarse = self.coarse(x)
        y = self.to32(x)
        features = torch.cat([y.mean(dim=(2, 3)), *_peak_features(y, coarse)], dim=1)
        return self.head(self.drop(features)).squeeze(1), coarse


class ClassifierHead(nn.Module):
    """One logit from the last features and from a coarse map of possible defects.

    `fc` on the averaged features is what a plain classifier has; `extra`, on their maxima
    and on the map, starts at zero, so that a loaded classifier's output is unchanged at first.

    Args:
        features: Channels of the last features.
        middle: Channels of the features that the map is computed from.
        drop: Dropout of the averaged features.
    """

    def __init__(self, features: int, middle: int, drop: float = 0.1) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop)
        self.coarse = nn.Conv2d(middle, 1, 1)
        self.extra = nn.Linear(features + 2, 1)
        nn.init.zeros_(self.extra.weight)
        nn.init.zeros_(self.extra.bias)

    def forward(self, last: Tensor, middle: Tensor, fc: nn.Module) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, h, w)); `fc` maps averages (N, F) to (N, 1)."""
        coarse = self.coarse(middle)
        peaks = torch.cat(_peak_features(last, coarse), dim=1)
        logit = fc(self.drop(last.mean(dim=(2, 3)))) + self.extra(self.drop(peaks))
        return logit.squeeze(1), coarse


def _peak_features(features: Tensor, coarse: Tensor) -> list[Tensor]:
    """Maxima of the features (N, F), maximum and mean probability of the map (N, 1)."""
    return [
        features.amax(dim=(2, 3)),
        coarse.amax(dim=(2, 3)),
        torch.sigmoid(coarse).mean(dim=(2, 3)),
    ]


class CnnGate(nn.Module):
    """Five strided convolutions without residuals; about 0.1 M parameters. For comparison.

    Args:
        channels: 1 or 3.
        widths: Channels at strides 2, 4, 8, 16 and 32.
        ignore_black: See `PerImageStandardize`.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (16, 32, 32, 64, 96),
        *,
        ignore_black: bool = False,
    ) -> None:
        super().__init__()
        stem, second, third, fourth, fifth = widths
        self.standardise = PerImageStandardize(ignore_black)
        self.to16 = nn.Sequential(
            ConvBnRelu(channels, stem, 5, 2),
            ConvBnRelu(stem, second, 3, 2),
            ConvBnRelu(second, third, 3, 2),
            ConvBnRelu(third, fourth, 3, 2),
        )
        self.to32 = ConvBnRelu(fourth, fifth, 3, 2)
        self.fc = nn.Linear(fifth, 1)
        self.head = ClassifierHead(fifth, fourth)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, H/16, W/16))."""
        middle = self.to16(self.standardise(image))
        logit, coarse = self.head(self.to32(middle), middle, self.fc)
        return logit, coarse


class DecoderBlock(nn.Module):
    """1x1, nearest upsampling by two, plus the skip through a 1x1, then a block."""

    def __init__(self, inputs: int, skip: int, outputs: int, *, light: bool) -> None:
        super().__init__()
        # A norm on each branch, not on their sum, so that both fold into their convolution.
        self.reduce = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.lateral = nn.Sequential(
            nn.Conv2d(skip, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.block: nn.Module = (
            ConvBnRelu(outputs, outputs) if light else ResidualBlock(outputs, outputs)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return self.block(F.relu(up + self.lateral(skip)))


class ResUNet(nn.Module):
    """A residual U-Net whose logits have `stride` 2 or 4.

    The input is padded (right and bottom, with zeros after standardising) to what the
    deepest stage needs; the logits are cut back to ceil(size / stride).
    """

    def __init__(
        self,
        classes: int,
        channels: int = 1,
        stride: int = 4,
        widths: tuple[int, ...] = (32, 48, 64, 96),
    ) -> None:
        super().__init__()
        if stride not in (2, 4):
            raise ValueError("stride is 2 or 4")
        self.stride = stride
        self.multiple = stride * 2 ** (len(widths) - 1)
        self.standardise = PerImageStandardize()
        stem = [ConvBnRelu(channels, 16, 5, 2)]
        if stride == 4:
            stem.append(ConvBnRelu(16, widths[0], 3, 2))
        self.stem = nn.Sequential(*stem)
        first = widths[0] if stride == 4 else 16
        self.encoder = nn.ModuleList([ResidualBlock(first, widths[0])])
        for before, after in pairwise(widths):
            self.encoder.append(ResidualBlock(before, after, 2))
        self.decoder = nn.ModuleList()
        for level in range(len(widths) - 1, 0, -1):
            self.decoder.append(
                DecoderBlock(widths[level], widths[level - 1], widths[level - 1], light=level == 1)
            )
        self.logits = nn.Conv2d(widths[0], classes + 1, 1)
        self.deep = nn.Conv2d(widths[1], classes + 1, 1)
        self.presence = nn.Linear(2 * widths[-1], classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (N, K+1, h, w), deep logits at twice the stride, presence (N, K))."""
        height, width = image.shape[2], image.shape[3]
        x = self.standardise(image)
        right, bottom = -width % self.multiple, -height % self.multiple
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom))
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        presence = self.presence(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        deep = x
        for step, up in enumerate(self.decoder):
            x = up(x, skips[-2 - step])
            if step == len(self.decoder) - 2:
                deep = self.deep(x)
        logits = self.logits(x)
        h, w = -(-height // self.stride), -(-width // self.stride)
        return logits[:, :, :h, :w], deep, presence


class MapGate(nn.Module):
    """A gate that segments first: the logit is computed from a fine map of defects.

    For small defects in few images: the map (stride 4) is trained on every pixel of the
    masks, and the logit depends on the map's peak, its sum and the deepest features. About
    twenty times the work of `SmallGate`.
    Source: Tabernik 2019, "Segmentation-based deep-learning approach for surface-defect
        detection"
    """

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 48, 64, 96, 128),
        *,
        ignore_black: bool = False,
    ) -> None:
        super().__init__()
        self.body = ResUNet(1, channels, 4, widths)
        self.body.standardise = PerImageStandardize(ignore_black)
        self.peaks = 8
        """Cells averaged for the map's peak, since a single cell is noisy."""
        self.head = nn.Linear(4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), map logits (N, 1, H/4, W/4))."""
        logits, _deep, presence = self.body(image)
        fine = logits[:, 1:] - logits[:, :1]
        flat = fine.flatten(1)
        peak = flat.topk(min(self.peaks, flat.shape[1]), dim=1).values
        features = torch.cat(
            [peak[:, :1], peak.mean(dim=1, keepdim=True), _soft_area(flat), presence], dim=1
        )
        return self.head(features).squeeze(1), fine


def _soft_area(flat: Tensor) -> Tensor:
    """Return the logarithm of the mean defect probability of all cells, (N, 1)."""
    return torch.log(torch.sigmoid(flat.float()).mean(dim=1, keepdim=True) + 1e-5)


def count_parameters(net: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
