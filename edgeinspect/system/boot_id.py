"""Identifies the boot and time namespace that an instant of the monotonic clock belongs to.

Two processes with the same identifier read the same CLOCK_MONOTONIC, which no step of the
wall clock moves. It includes the time namespace: a container may have its own clock.
Source: man 5 proc (random/boot_id), man 7 time_namespaces
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str | None:
    """Return an identifier of at most 64 characters; None if the system does not provide one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    try:
        space = os.readlink("/proc/self/ns/time").strip("time:[]")
    except OSError:  # kernels before 5.6 have a single clock
        space = ""
    return f"{boot}/{space}"[:64] if boot else None
