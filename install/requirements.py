"""The distributions of a line PC's environment, from setup.cfg and what is installed."""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cpu", "onnx", "plc", "hmi", "record")
"""What a line PC wants of setup.cfg."""
TOOLS = ("pip",)
"""Needed on the PC to add an extra later."""


def required(extras: tuple[str, ...] = EXTRAS) -> set[str]:
    """Names of all distributions that edgeinspect needs with its extras, itself left out."""
    # pip is in every environment of ours, `packaging` by itself is not.
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    seen: dict[str, set[str]] = {}

    def walk(name: str, extras: set[str]) -> None:
        name = canonicalize_name(name)
        if name not in seen or not extras <= seen[name]:
            seen[name] = seen.get(name, set()) | extras
            follow(importlib.metadata.distribution(name).requires or (), extras)

    def follow(requirements: Iterable[str], extras: set[str]) -> None:
        for words in requirements:
            wanted = Requirement(words)
            marker = wanted.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                walk(wanted.name, set(wanted.extras))

    try:
        follow(own_requirements(extras), set())
        follow(TOOLS, set())
    except importlib.metadata.PackageNotFoundError as error:
        sys.exit(f"install: {error.name} is required and not in this environment: make line")
    return set(seen)


def own_requirements(extras: tuple[str, ...]) -> list[str]:
    """What setup.cfg asks for; what is installed may be of an older one."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    known = config["options.extras_require"]
    blocks = (config["options"]["install_requires"], *(known[name] for name in extras))
    return [line for block in blocks for line in block.splitlines() if line.strip()]
