"""One connection to a camera through libaravis: features, buffers and closing.

Buffers are allocated by malloc and never freed: a thread of the library may still write into
one while the interpreter exits or while a dead camera's connection is closed. A buffer that is
not needed is reused by the next connection.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from edgeinspect.cameras._aravis.library import POLICY_CHECK, AravisLibrary
from edgeinspect.cameras._genicam.device import FeatureValue
from edgeinspect.errors import CameraLostError

_libc = ctypes.CDLL(None)
_libc.malloc.argtypes = (ctypes.c_size_t,)
_libc.malloc.restype = ctypes.c_void_p

_blocks_lock = threading.Lock()
_free_blocks: dict[int, list[int]] = {}
"""Size to addresses of unused blocks."""
_closing: dict[str, threading.Event] = {}
"""Camera name to the end of its last connection; set when it is closed."""


class AravisConnection:
    """An open camera. `control` is thread-safe; the rest belongs to one thread.

    Args:
        lib: The library.
        name: Name of the camera in the library.

    Raises:
        CameraLostError: The camera cannot be reached.
        ValueError: The camera refuses.
    """

    def __init__(self, lib: AravisLibrary, name: str) -> None:
        self._lib = lib
        self._name = name
        self._feature_types: dict[str, str] = {}
        self._control_lock = threading.Lock()
        self._blocks: list[tuple[int, int]] = []
        self.camera: int = lib.camera_new(name.encode())
        self.device: int = lib.camera_get_device(self.camera)
        # Otherwise the library writes values beyond the camera's limits.
        lib.device_set_range_check_policy(self.device, POLICY_CHECK)
        lib.device_set_access_check_policy(self.device, POLICY_CHECK)
        self.is_gige = bool(lib.camera_is_gv_device(self.camera))
        if self.is_gige and not lib.gv_device_is_controller(self.device):
            # The library opens it nevertheless, and every write times out.
            lib.unref(self.camera)
            raise CameraLostError("another program controls it")
        self.stream: int = 0
        self.buffer_arrays: dict[int, NDArray[np.uint8]] = {}
        """Buffer to its memory."""
        self.is_closed = False

    @contextmanager
    def control(self) -> Iterator[None]:
        """Hold the control channel for one call; the connection is not freed meanwhile.

        Raises:
            CameraLostError: The connection is closed.
        """
        with self._control_lock:
            if self.is_closed:
                raise CameraLostError("is not open", where=self._name)
            yield

    def queue_buffers(self, count: int, size_bytes: int) -> None:
        """Allocate buffers and queue them in the stream."""
        for _ in range(count):
            address, memory = acquire_block(size_bytes)
            buffer = self._lib.buffer_new(size_bytes, address)
            self.buffer_arrays[buffer] = memory
            self._blocks.append((size_bytes, address))
            self._lib.stream_push_buffer(self.stream, buffer)

    # -- features ---------------------------------------------------------------------

    def read(self, feature: str) -> FeatureValue | None:
        """Return a feature's value; None if there is none. The caller holds `control`."""
        lib, device, name = self._lib, self.device, feature.encode()
        kind = self._feature_type(feature)
        if not kind or not lib.device_is_feature_available(device, name):
            return None
        if kind in ("enumeration", "string"):
            text = lib.device_get_string_feature_value(device, name)
            return (text or b"").decode(errors="replace")
        if kind == "boolean":
            return bool(lib.device_get_boolean_feature_value(device, name))
        if kind == "float":
            return float(lib.device_get_float_feature_value(device, name))
        if kind == "integer":
            return int(lib.device_get_integer_feature_value(device, name))
        return None

    def write(self, feature: str, value: FeatureValue) -> None:
        """Set a feature. The caller holds `control`.

        Raises:
            ValueError: The value is refused.
        """
        lib, device, name = self._lib, self.device, feature.encode()
        kind = self._feature_type(feature)
        if kind in ("enumeration", "string"):
            lib.device_set_string_feature_value(device, name, str(value).encode())
        elif isinstance(value, str):
            raise ValueError(f"expected: {kind}")
        elif kind == "boolean":
            lib.device_set_boolean_feature_value(device, name, bool(value))
        elif kind == "float":
            lib.device_set_float_feature_value(device, name, float(value))
        elif kind == "integer" and value == int(value):
            lib.device_set_integer_feature_value(device, name, int(value))
        else:
            raise ValueError(f"expected: {kind or 'command'}")

    def _feature_type(self, feature: str) -> str:
        if feature not in self._feature_types:
            node = self._lib.device_get_feature(self.device, feature.encode())
            self._feature_types[feature] = self._lib.feature_type(node) if node else ""
        return self._feature_types[feature]

    # -- closing ----------------------------------------------------------------------

    def close(self, wait_s: float) -> None:
        """Close the camera in a separate thread, and wait for at most `wait_s`.

        With a dead camera every command times out, which takes several seconds in all.
        """
        self.is_closed = True
        done = _closing[self._name] = threading.Event()
        threading.Thread(
            target=self._close_in_thread, args=(done,), name="aravis-close", daemon=True
        ).start()
        done.wait(wait_s)

    def _close_in_thread(self, done: threading.Event) -> None:
        lib = self._lib
        try:
            if self.stream:
                lib.camera_stop_acquisition(self.camera)
        except (CameraLostError, ValueError):
            pass  # the camera is gone
        with self._control_lock:
            if self.stream:
                lib.unref(self.stream)
            lib.unref(self.camera)
        for block in self._blocks:
            release_block(*block)
        done.set()


def wait_until_closed(name: str, wait_s: float) -> bool:
    """Return False if the last connection to a camera is still closing after `wait_s`.

    Its last command releases control of the camera. If it followed the opening of a new
    connection, the camera would no longer respond to that one.
    """
    done = _closing.get(name)
    return done is None or done.wait(wait_s)


def acquire_block(size_bytes: int) -> tuple[int, NDArray[np.uint8]]:
    """Return (address, array over the same memory) of a zeroed block. Thread-safe.

    Raises:
        MemoryError: malloc failed.
    """
    with _blocks_lock:
        unused = _free_blocks.get(size_bytes)
        address = unused.pop() if unused else _libc.malloc(max(1, size_bytes))
    if not address:
        raise MemoryError(f"no memory for a camera buffer of {size_bytes} bytes")
    array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
    array.fill(0)
    return address, array


def release_block(size_bytes: int, address: int) -> None:
    """Keep a block for the next connection. Thread-safe."""
    with _blocks_lock:
        _free_blocks.setdefault(size_bytes, []).append(address)
