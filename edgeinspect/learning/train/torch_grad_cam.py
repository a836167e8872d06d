"""Grad-CAM with torch's gradients, from a training run's checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeinspect.errors import DataError
from edgeinspect.learning.train.run_identity import load_run

FEATURE_LAYER = "coarse"
"""The module of our gates whose input is the features shared by map and classifier."""


class TorchGradCam:
    """Heat maps of one gate. For one thread.

    Args:
        net: A gate in eval mode: (N, C, H, W) float32 to (logit, coarse map), or to the logits
            of good and of each kind.
        has_good: Whether a gate of kinds has learned good images. Without them the map is of the
            likeliest kind against the others.
    """

    def __init__(self, net: nn.Module, *, has_good: bool = True) -> None:
        self._net = net
        self._has_good = has_good
        self.layer, self._module = _find_feature_layer(net)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        """Compute which parts of an image raise the gate's probability.

        Args:
            image: uint8 (H, W, C).

        Returns:
            (map float32 (h, w), at least 0; the probability).
            Source: Selvaraju et al. 2017
        """
        features: list[Tensor] = []
        uses_input = self.layer.rpartition(".")[2] == FEATURE_LAYER

        def save(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            features.append(inputs[0] if uses_input else output)

        hook = self._module.register_forward_hook(save)
        try:
            frame = torch.from_numpy(image[None]).to(torch.float32).permute(0, 3, 1, 2)
            with torch.enable_grad():
                logits, _coarse = self._net(frame)
                logit = self._logit_of(logits)
                (gradient,) = torch.autograd.grad(logit, features[-1])
        finally:
            hook.remove()
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        heat = torch.relu((weights * features[-1]).sum(dim=1))[0]
        prob = float(torch.sigmoid(logit.detach())) if self._has_good else 1.0
        return heat.detach().numpy(), prob

    def _logit_of(self, logits: Tensor) -> Tensor:
        """Return the logit of one image that the map explains: that of `defect_prob` if it has one.

        Args:
            logits: (1,), or (1, K+1) of good and of each kind.
        """
        if logits.dim() == 1:
            return logits[0]
        good, kinds = logits[0, 0], logits[0, 1:]
        if self._has_good:
            return kinds.logsumexp(0) - good
        best = int(kinds.argmax())
        return kinds[best] - torch.cat([kinds[:best], kinds[best + 1 :]]).logsumexp(0)


def load_grad_cam(path: Path) -> TorchGradCam:
    """Load the gate of a training run.

    Args:
        path: The run's folder.

    Raises:
        DataError: It is not a run folder, or its network is a segmenter.
    """
    net, identity = load_run(path)
    if identity["kind"] != "gate":
        raise DataError(
            "is the run of a segmenter",
            where=str(path),
            remedy="Grad-CAM is for gates; a segmenter has its class map",
        )
    return TorchGradCam(net, has_good=identity.get("decides") != "kinds")


def _find_feature_layer(net: nn.Module) -> tuple[str, nn.Module]:
    """Return the coarse map's module, or the last convolution of a network without one."""
    modules = dict(net.named_modules())
    for name, module in modules.items():
        if name.rpartition(".")[2] == FEATURE_LAYER:
            return name, module
    convolutions = [(n, m) for n, m in modules.items() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        raise DataError("has no convolution for Grad-CAM", where=type(net).__name__)
    return convolutions[-1]
