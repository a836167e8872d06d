"""Memory that a C library writes into: never freed, used again.

A library's thread may still write into a buffer while the interpreter ends, or while a dead
camera's connection is being let go. Memory of numpy would be gone by then. So a block comes
from malloc, and a block that is not needed waits here for the next connection.
"""

from __future__ import annotations

import ctypes
import threading

import numpy as np
from numpy.typing import NDArray

_libc = ctypes.CDLL(None)
_libc.malloc.argtypes = (ctypes.c_size_t,)
_libc.malloc.restype = ctypes.c_void_p

_lock = threading.Lock()
_free_blocks: dict[int, list[int]] = {}


def acquire_block(size_bytes: int) -> tuple[int, NDArray[np.uint8]]:
    """(address, the same memory as an array) of a block, touched page by page. Thread-safe.

    Raises:
        MemoryError: There is none.
    """
    with _lock:
        kept = _free_blocks.get(size_bytes)
        address = kept.pop() if kept else _libc.malloc(max(1, size_bytes))
    if not address:
        raise MemoryError(f"no room for a camera buffer of {size_bytes} bytes")
    array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
    array.fill(0)
    return address, array


def release_block(size_bytes: int, address: int) -> None:
    """Keep a block for the next one who asks. Thread-safe."""
    with _lock:
        _free_blocks.setdefault(size_bytes, []).append(address)
