"""Temporary folders in memory, for lines that a tool runs by itself."""

from __future__ import annotations

import os
import tempfile


def temporary_memory_folder(purpose: str) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, in memory where the system has one.

    Args:
        purpose: Part of its name.
    """
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(
        prefix=f"edgeinspect-{purpose}-", dir=folder, ignore_cleanup_errors=True
    )
