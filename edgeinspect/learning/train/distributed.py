"""Training in several processes, as `torchrun` starts them.

Every process draws its own part of each batch; DistributedDataParallel averages the gradients.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

_COLLECTIVE_TIMEOUT = timedelta(minutes=10)
"""Covers the slowest process, which may be writing a checkpoint or validating."""


def rank() -> int:
    """Return the number of this process, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def process_count() -> int:
    """Return the number of processes of the training."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes if `torchrun` started more than one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=_COLLECTIVE_TIMEOUT)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def wrap_distributed(net: nn.Module) -> nn.Module:
    """Return the network as all processes train it; `net` itself with one process."""
    if process_count() == 1:
        return net
    if torch.cuda.is_available():
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return nn.parallel.DistributedDataParallel(net, device_ids=[torch.cuda.current_device()])
    return nn.parallel.DistributedDataParallel(net)


def broadcast_from_first(value: float) -> float:
    """Return the first process' value in every process."""
    if process_count() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=compute_device())
    torch.distributed.broadcast(tensor, 0)
    return float(tensor.item())


def compute_device() -> Any:
    """Return the device of this process."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_thread_count(threads: int) -> None:
    """Fix the thread count, which determines the last bits of the weights."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
