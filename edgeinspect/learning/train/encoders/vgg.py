"""VGG16 with and without batch norm in plain torch, with torchvision's parameter names.

Source: Simonyan and Zisserman 2014, "Very deep convolutional networks"; torchvision's `vgg16`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edgeinspect.learning.train.encoders.encoder import IMAGENET

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) before each pooling."""


class Vgg16(nn.Module):
    """The encoder, without the classifier. Its features are taken before each pooling.

    Args:
        norms: Batch norm after each convolution: torchvision's `vgg16_bn`.
    """

    statistics = IMAGENET
    widths = (128, 256, 512, 512, 512)

    def __init__(self, *, norms: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._pools: list[int] = []
        inputs = 3
        for channels, count in _BLOCKS:
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, channels, 3, 1, 1))
                if norms:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
                inputs = channels
            self._pools.append(len(layers))
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        self.features = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features at strides 2 to 32; see `Encoder`."""
        x, features = image, []
        for index, layer in enumerate(self.features):
            if index in self._pools[1:]:
                features.append(x)
            x = layer(x)
        return (*features, x)

    def adapt_state(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Encoder`."""
        return {key: value for key, value in published.items() if key.startswith("features.")}
