"""Which start of which PC this is: what an instant of the monotonic clock must be told with.

Two processes with the same word here read the same CLOCK_MONOTONIC, which no step of the
wall clock moves. The time namespace belongs to it: a container may have a clock of its own.
Source: man 5 proc (random/boot_id), man 7 time_namespaces
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def boot_id() -> str | None:
    """At most 64 characters; None where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    try:
        space = os.readlink("/proc/self/ns/time").strip("time:[]")
    except OSError:  # a kernel before 5.6 has one clock for all
        space = ""
    return f"{boot}/{space}"[:64] if boot else None
