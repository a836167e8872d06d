"""ResNet 18, 34 and 50 in plain torch, with torchvision's parameter names.

A `.pth` of torchvision loads into `ResNet` unchanged; `ResNetGate` adds the frame's
normalisation and the gate's head.
Source: He et al. 2015, with the stride in the 3x3 of a bottleneck ("ResNet v1.5").
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from edgeinspect.learning.train.frame_input import (
    IMAGENET_DEVIATION_RGB,
    IMAGENET_MEAN_RGB,
    FrameInput,
)
from edgeinspect.learning.train.networks import ClassifierHead
from edgeinspect.learning.train.weights import check_compatible, find_weights, read_weights

log = logging.getLogger(__name__)

RESNET_STAGES: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
}
"""Name to (whether its blocks are bottlenecks, blocks of each stage)."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions plus the shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, plus the shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """torchvision's ResNet: the same parameter names, initialisation and arithmetic.

    Args:
        name: `resnet18`, `resnet34` or `resnet50`.
        channels: Of the input.
        outputs: Of `fc`.
    """

    def __init__(self, name: str, channels: int = 3, outputs: int = 1000) -> None:
        super().__init__()
        bottleneck, counts = RESNET_STAGES[name]
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        stages = []
        for index, count in enumerate(counts):
            width = 64 << index
            blocks = []
            for place in range(count):
                blocks.append(block(inputs, width, 2 if index and not place else 1))
                inputs = width * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, outputs)
        self.feature_channels = inputs
        self.middle_channels = inputs // 2
        """Of the features after `layer4` and `layer3`."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at stride 16 and at stride 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        middle = self.layer3(self.layer2(self.layer1(x)))
        return middle, self.layer4(middle)

    def forward(self, x: Tensor) -> Tensor:
        """Map standardised float32 (N, C, H, W) to logits (N, outputs)."""
        _middle, last = self.forward_features(x)
        return self.fc(last.mean(dim=(2, 3)))


class ResNetGate(nn.Module):
    """A ResNet as a gate: raw frames in, one logit and a coarse map out.

    Args:
        name: A key of `RESNET_STAGES`.
        channels: Of the frame, 1 or 3 (blue, green, red).
        ignore_black: See `FrameInput`.
        gray: How colour weights apply to a grey frame: `sum` folds the first convolution to
            one channel, `repeat` repeats the frame in three channels.
    """

    def __init__(
        self,
        name: str,
        channels: int = 1,
        *,
        ignore_black: bool = False,
        gray: Literal["sum", "repeat"] = "sum",
    ) -> None:
        super().__init__()
        self.name = name
        self.repeats_gray = channels == 1 and gray == "repeat"
        inner = 3 if self.repeats_gray else channels
        self.adapt = FrameInput(inner, ignore_black=ignore_black)
        self.body = ResNet(name, inner, outputs=1)
        self.head = ClassifierHead(self.body.feature_channels, self.body.middle_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(logit (N,), coarse logits (N, 1, H/16, W/16))."""
        if self.repeats_gray:
            image = image.expand(-1, 3, -1, -1)
        middle, last = self.body.forward_features(self.adapt(image))
        logit, coarse = self.head(last, middle, self.body.fc)
        return logit, coarse

    def load_pretrained(self, path: Path) -> None:
        """Load the weights of a torchvision `.pth`, and normalise frames as they expect.

        The weights are for RGB; frames are BGR or grey. `fc` with other than one output is
        not loaded, with a line in the log.

        Args:
            path: The file, or `CACHED_WEIGHTS` for torch's cache.

        Raises:
            ModelError: The file cannot be read, or holds the weights of another network.
        """
        path = find_weights(path, f"{self.name}-*.pth")
        weights = read_weights(path)
        own = self.body.state_dict()
        if "fc.weight" in weights and weights["fc.weight"].shape != own["fc.weight"].shape:
            outputs = len(weights["fc.weight"])
            log.info("%s: fc has %d outputs, a gate has 1: fc is not loaded", path, outputs)
            weights = {**weights, "fc.weight": own["fc.weight"], "fc.bias": own["fc.bias"]}
        check_compatible(weights, {**own, "conv1.weight": torch.empty(64, 3, 7, 7)}, path)
        mean = 255 * torch.tensor(IMAGENET_MEAN_RGB)
        deviation = 255 * torch.tensor(IMAGENET_DEVIATION_RGB)
        if own["conv1.weight"].shape[1] == 1:
            weights, mean, deviation = _fold_to_gray(weights, mean, deviation)
        elif not self.repeats_gray:  # frames are BGR
            weights = {**weights, "conv1.weight": weights["conv1.weight"].flip(1)}
            mean, deviation = mean.flip(0), deviation.flip(0)
        self.body.load_state_dict(weights)
        self.adapt.use_fixed_statistics(mean, deviation)


def _fold_to_gray(
    weights: Mapping[str, Tensor], mean: Tensor, deviation: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Fold the first convolution to one channel; equal for grey frames except at the border.

    The difference of the channels' means is a constant, which the first norm absorbs.
    """
    one_mean, one_deviation = mean.mean(), deviation.mean()
    kernel = weights["conv1.weight"]
    scaled = kernel / deviation.reshape(1, 3, 1, 1)
    shift = (scaled * (one_mean - mean).reshape(1, 3, 1, 1)).sum(dim=(1, 2, 3))
    changed = {
        **weights,
        "conv1.weight": scaled.sum(dim=1, keepdim=True) * one_deviation,
        "bn1.running_mean": weights["bn1.running_mean"] - shift,
    }
    return changed, one_mean, one_deviation
