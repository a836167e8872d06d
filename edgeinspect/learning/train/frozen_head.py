"""Fits the classifier of an `EncoderGate` on frozen features, before any step of training.

Logistic regression on statistics of pretrained features is a usable gate within a minute of
processor time, and a start from which fine-tuning improves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgeinspect.learning.datasets import ImageArrays
from edgeinspect.learning.train.encoder_networks import EncoderGate

PENALTIES = (0.003, 0.03, 0.3)
"""Candidates for the factor of the squared weights; validation chooses."""
_BATCH = 8
_MAX_PASSES = 3000
"""Of the encoder: bounds the time, one and a half minutes for 3,000 images of 288x288."""
_ITERATIONS = 100
_UNKNOWN_KIND = -1


def fit_frozen_head(
    net: EncoderGate,
    train: ImageArrays,
    validation: ImageArrays | None,
    seed: int,
    *,
    flips: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Set `net`'s standardisation and classifier so that it decides by frozen features.

    Args:
        net: Its encoder has pretrained weights; `fc` is replaced.
        train: Images with labels.
        validation: Chooses the penalty; the middle one without it.
        seed: Draws images if there are more than a linear classifier needs.
        flips: A mirrored image keeps its label: few images are also taken mirrored.
        progress: Called with images done and in total.
    """
    net.eval()
    chosen = np.arange(len(train))
    if len(chosen) > _MAX_PASSES:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, _MAX_PASSES, replace=False))
    views = [False, True] if 2 * len(chosen) <= _MAX_PASSES and flips else [False]
    passes = len(views) * len(chosen)
    total = passes + (len(validation) if validation is not None else 0)
    features = torch.cat(
        [
            _statistics(net, train.images, chosen, partial(_report, progress, done, total), flip)
            for done, flip in zip((0, len(chosen)), views, strict=False)
        ]
    )
    deviation, mean = torch.std_mean(features, dim=0)
    net.feature_mean.copy_(mean)
    net.feature_deviation.copy_(deviation.clamp(min=1e-3))
    targets = torch.from_numpy(np.tile(gate_targets(train, net.kinds)[chosen], len(views)))
    x = _standardise(net, features)
    known = targets != _UNKNOWN_KIND
    penalties = PENALTIES if validation is not None else PENALTIES[1:2]
    candidates = [_regress(x[known], targets[known], net, penalty) for penalty in penalties]
    best = candidates[0]
    if validation is not None:
        rest = np.arange(len(validation))
        x = _standardise(
            net,
            _statistics(net, validation.images, rest, lambda done: progress(passes + done, total)),
        )
        truth = torch.from_numpy(gate_targets(validation, net.kinds))
        known = truth != _UNKNOWN_KIND
        best = min(candidates, key=lambda each: _balanced_loss(x[known], truth[known], *each))
    with torch.no_grad():
        net.fc.weight.copy_(best[0])
        net.fc.bias.copy_(best[1])
    net.is_fitted = True


def gate_targets(images: ImageArrays, kinds: int) -> NDArray[np.int64]:
    """Return the class of each image for a gate, (N,).

    0 is good; 1 is defective, or a kind's id if the gate tells kinds apart: then -1 is a
    defective image of unknown kind.
    """
    if not kinds:
        return images.defective.astype(np.int64)
    known = np.where(images.kinds > 0, images.kinds.astype(np.int64), _UNKNOWN_KIND)
    return np.where(images.defective, known, 0)


def _statistics(
    net: EncoderGate,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    progress: Callable[[int], None],
    is_flipped: bool = False,
) -> Tensor:
    parts = []
    for first in range(0, len(indices), _BATCH):
        batch = np.asarray(images[indices[first : first + _BATCH]]).transpose(0, 3, 1, 2)
        tensor = torch.from_numpy(batch.astype(np.float32))
        tensor = tensor.flip(3) if is_flipped else tensor
        with torch.no_grad():
            parts.append(net.statistics(tensor.contiguous(memory_format=torch.channels_last)))
        progress(min(len(indices), first + _BATCH))
    return torch.cat(parts)


def _report(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _standardise(net: EncoderGate, features: Tensor) -> Tensor:
    mean, deviation = cast(Tensor, net.feature_mean), cast(Tensor, net.feature_deviation)
    return ((features - mean) / deviation).double()


def _regress(
    features: Tensor, targets: Tensor, net: EncoderGate, penalty: float
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a logistic regression with balanced classes."""
    outputs = net.fc.out_features
    weight = torch.zeros(outputs, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(features, targets, weight, bias) + penalty * (weight**2).sum() / outputs
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def _balanced_loss(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> float:
    return float(_loss(features, targets, weight, bias))


def _loss(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    logits = features @ weight.T + bias
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    losses = F.cross_entropy(logits, targets, reduction="none")
    counts = torch.bincount(targets, minlength=logits.shape[1])
    share = 1 / (counts[targets] * (counts > 0).sum())
    return (losses * share).sum()
