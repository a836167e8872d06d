"""Names of the GPUs in this machine, without loading a driver.

Source: /proc/driver/nvidia (NVIDIA's driver), /proc/device-tree/model (Jetson)
"""

from __future__ import annotations

from pathlib import Path

_DRIVER = Path("/proc/driver/nvidia/gpus")
_BOARD = Path("/proc/device-tree/model")


def gpu_names() -> tuple[str, ...]:
    """Return the names of GPUs and of a Jetson board as their drivers report them."""
    found = []
    for card in sorted(_DRIVER.glob("*/information")):
        for line in _text(card).splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                found.append(value.strip())
    board = _text(_BOARD).rstrip("\0").strip()
    if "NVIDIA" in board or "Jetson" in board:
        found.append(board)
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
