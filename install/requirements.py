"""The project's environments: which extras each has, and what setup.cfg requires for them."""

from __future__ import annotations

import configparser
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cpu", "onnx", "plc", "hmi", "record")
"""Extras of a line PC."""
TOOLS = ("pip",)
"""Needed on the PC to add an extra later."""
BUILD = "package"
"""The extra that installs the others, and builds the project's wheel."""
ENVIRONMENTS = {
    "demo": ("cpu",),
    "docs": ("docs",),
    "line": EXTRAS,
    "test": (*EXTRAS, "train", "pretrained", "genicam", "test", "dev", "docs"),
}
"""Extras of each environment, besides `BUILD`; `install/locks/NAME.txt` has its versions."""


def required(extras: tuple[str, ...] = EXTRAS) -> set[str]:
    """Return the names of all distributions that edgeinspect with its extras requires."""
    # Every environment has pip, but not `packaging` itself.
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

    extras_by_name: dict[str, set[str]] = {}

    def walk(name: str, extras: set[str]) -> None:
        name = canonicalize_name(name)
        if name not in extras_by_name or not extras <= extras_by_name[name]:
            extras_by_name[name] = extras_by_name.get(name, set()) | extras
            follow(importlib.metadata.distribution(name).requires or (), extras)

    def follow(requirements: Iterable[str], extras: set[str]) -> None:
        for text in requirements:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                walk(requirement.name, set(requirement.extras))

    try:
        follow(own_requirements(extras), set())
        follow(TOOLS, set())
    except importlib.metadata.PackageNotFoundError as error:
        sys.exit(f"install: {error.name} is required and not in this environment: make line")
    return set(extras_by_name)


def own_requirements(extras: tuple[str, ...] = EXTRAS) -> list[str]:
    """Return the requirements in setup.cfg; the installed metadata may be older."""
    base = configuration()["options"]["install_requires"]
    return [*lines(base), *extra_requirements(extras)]


def extra_requirements(extras: Iterable[str]) -> list[str]:
    """Return the requirements that extras add to the project's."""
    blocks = configuration()["options.extras_require"]
    return [line for name in extras for line in lines(blocks[name])]


def configuration() -> configparser.ConfigParser:
    """Return setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def lines(block: str) -> list[str]:
    """Return the lines of a value that are not empty."""
    return [line for line in block.splitlines() if line.strip()]
