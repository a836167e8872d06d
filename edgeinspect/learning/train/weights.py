"""Pretrained weights from local files; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from edgeinspect.errors import ModelError
from edgeinspect.system import check_regular

CACHED_WEIGHTS = Path("cached")
"""Instead of a file: what torch, timm or segmentation-models-pytorch have in their caches."""


def find_weights(path: Path, pattern: str) -> Path:
    """Return the file itself, or for `CACHED_WEIGHTS` the newest match in torch's cache.

    Raises:
        ModelError: There is no such file.
    """
    if path != CACHED_WEIGHTS:
        if not path.is_file():
            raise ModelError(
                "there is no such file",
                where=str(path),
                remedy="Name a .pth of this machine, or leave weights out",
            )
        return path
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        raise ModelError(
            f"there are no weights {pattern}",
            where=str(folder),
            remedy="Copy the .pth there or name it; nothing is downloaded",
        )
    return files[-1]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a `.pth`; the prefix `module.` of parallel training is removed.

    Raises:
        ModelError: It cannot be read, or holds anything but tensors.
    """
    try:
        loaded = torch.load(check_regular(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, by the format it guessed
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"cannot be read as weights: {reason}",
            where=str(path),
            remedy="Give a .pth that holds a state dict",
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if (
        not isinstance(loaded, Mapping)
        or not loaded
        or not all(isinstance(value, Tensor) for value in loaded.values())
    ):
        raise ModelError(
            "holds no state dict",
            where=str(path),
            remedy="Save it with torch.save(network.state_dict(), path)",
        )
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def check_compatible(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    """Check that a state dict has the expected names and shapes.

    Raises:
        ModelError: Lists missing names, surplus names and other shapes.
    """
    # Older files have no batch counters; torch accepts their absence.
    missing = [k for k in expected if k not in weights and not k.endswith("num_batches_tracked")]
    surplus = [k for k in weights if k not in expected]
    shapes = [
        f"{k} is {tuple(weights[k].shape)}, not {tuple(expected[k].shape)}"
        for k in expected
        if k in weights and weights[k].shape != expected[k].shape
    ]
    problems = [
        f"{label} {', '.join(names[:4])}{f' and {len(names) - 4} more' * (len(names) > 4)}"
        for label, names in (("lacks", missing), ("has also", surplus), ("shapes:", shapes))
        if names
    ]
    if problems:
        raise ModelError(
            f"the weights are of another network: {'; '.join(problems)}",
            where=str(path),
            remedy="Give the weights of the architecture that you named",
        )
