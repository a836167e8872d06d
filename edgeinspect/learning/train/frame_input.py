"""Input normalisation for networks with pretrained weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgeinspect.learning.train.networks import PerImageStandardize

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION_RGB = (0.229, 0.224, 0.225)
"""Of values from 0 to 1, as torchvision's weights were trained with."""


class FrameInput(nn.Module):
    """Normalises raw frames by fixed statistics (pretrained networks) or each by itself.

    The choice is a buffer that is saved with the weights: a checkpoint of a pretrained
    network loads into a network that was built without pretrained weights.

    Args:
        channels: Of the frame: 1, or 3 in the order blue, green, red.
        ignore_black: See `PerImageStandardize`; with fixed statistics black becomes the mean.
    """

    def __init__(self, channels: int, *, ignore_black: bool) -> None:
        super().__init__()
        self.ignore_black = ignore_black
        self.standardise = PerImageStandardize(ignore_black)
        self.has_fixed_statistics = False
        shape = (1, channels, 1, 1)
        self.register_buffer("is_fixed", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        self.register_load_state_dict_post_hook(_restore_fixed_flag)

    def use_fixed_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Subtract `mean` and divide by `deviation`, both in grey levels per channel."""
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.deviation.copy_(deviation.reshape(self.deviation.shape))
        self.is_fixed.fill_(1.0)
        self.has_fixed_statistics = True

    def forward(self, image: Tensor) -> Tensor:
        if not self.has_fixed_statistics:
            return self.standardise(image)
        x = (image - self.mean) / self.deviation
        return x * (image > 0.5).to(torch.float32) if self.ignore_black else x


def _restore_fixed_flag(module: FrameInput, _keys: Any) -> None:
    module.has_fixed_statistics = bool(module.is_fixed > 0.5)
