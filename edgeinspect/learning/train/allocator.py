"""Keeps freed memory in the process while a network is trained.

torch frees and allocates every activation in each step. glibc returns blocks above 128 kB to the
kernel at once, and their pages are cleared and mapped again in the next step: a third of
the processor time of a pass.
Source: mallopt(3)
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Make malloc keep what is freed, until the process ends.

    Returns:
        Whether the C library can; only glibc can.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
