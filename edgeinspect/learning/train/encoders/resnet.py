"""ResNet 18, 34 and 50 in plain torch, with torchvision's parameter names.

Source: He et al. 2015, with the stride in the 3x3 of a bottleneck ("ResNet v1.5").
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edgeinspect.learning.train.encoders.encoder import IMAGENET

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
    """The encoder: torchvision's ResNet without `fc`, with the same names and arithmetic.

    Args:
        name: A key of `RESNET_STAGES`.
    """

    statistics = IMAGENET

    def __init__(self, name: str) -> None:
        super().__init__()
        bottleneck, counts = RESNET_STAGES[name]
        block = Bottleneck if bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
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
        self.widths = (64, *(64 * block.expansion << index for index in range(4)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features at strides 2 to 32; see `Encoder`."""
        x = self.relu(self.bn1(self.conv1(image)))
        features = [x]
        x = self.maxpool(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return tuple(features)

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Encoder`."""
        return {key: value for key, value in published.items() if not key.startswith("fc.")}
