"""Grad-CAM by torch's own gradients, from a training run's checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeinspect.errors import DataError
from edgeinspect.learning.train.training import load_run

FEATURE_LAYER = "coarse"
"""Module of every gate of ours that reads the features which map and verdict share."""


class TorchGradCam:
    """Heat maps of one gate. For one thread.

    Args:
        net: A gate in eval mode: (N, C, H, W) float32 to (logit, coarse map).
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self.layer, self._module = _find_feature_layer(net)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """Where the gate sees reason to call an image defective.

        Args:
            image: uint8 (H, W, C).

        Returns:
            (map float32 (h, w), at least 0; the probability).
            Source: Selvaraju et al. 2017
        """
        kept: list[Tensor] = []
        reads = self.layer.rpartition(".")[2] == FEATURE_LAYER

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(inputs[0] if reads else output)

        hook = self._module.register_forward_hook(keep)
        try:
            frame = torch.from_numpy(image[None]).to(torch.float32).permute(0, 3, 1, 2)
            with torch.enable_grad():
                logit, _coarse = self._net(frame)
                (gradient,) = torch.autograd.grad(logit.sum(), kept[-1])
        finally:
            hook.remove()
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        found = torch.relu((weights * kept[-1]).sum(dim=1))[0]
        return found.detach().numpy(), float(torch.sigmoid(logit.detach())[0])


def load_grad_cam(path: Path) -> TorchGradCam:
    """Grad-CAM of a training run's gate.

    Args:
        path: The run's folder.

    Raises:
        DataError: It is no run, or one of a segmenter.
    """
    net, identity = load_run(path)
    if identity["kind"] != "gate":
        raise DataError(
            "is the run of a segmenter",
            where=str(path),
            remedy="Grad-CAM is of a gate; a segmenter shows its map",
        )
    return TorchGradCam(net)


def _find_feature_layer(net: nn.Module) -> tuple[str, nn.Module]:
    """The coarse map's module, or the last convolution of a network that has none."""
    modules = dict(net.named_modules())
    for name, module in modules.items():
        if name.rpartition(".")[2] == FEATURE_LAYER:
            return name, module
    convolutions = [(n, m) for n, m in modules.items() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise DataError("has no convolution to look at", where=type(net).__name__)
    return convolutions[-1]
