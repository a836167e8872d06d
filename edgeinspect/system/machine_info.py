"""Processor, operating system and inference libraries: what makes verdicts reproducible."""

from __future__ import annotations

import platform
from importlib import metadata

from edgeinspect import __version__

_LIBRARIES = ("numpy", "opencv-python-headless", "openvino", "onnxruntime", "tensorrt")


def describe_machine() -> dict[str, str]:
    """Return versions and names for display and comparison; no library is imported."""
    found = {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "edgeinspect": __version__,
    }
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
