"""One connection to a camera through libaravis: its features, its memory, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from edgeinspect.cameras._aravis.blocks import acquire_block, release_block
from edgeinspect.cameras._aravis.library import POLICY_CHECK, AravisLibrary
from edgeinspect.cameras._genicam.device import FeatureValue
from edgeinspect.errors import CameraLostError

_closing: dict[str, threading.Event] = {}
"""Per camera name, the end of its last connection; set when it is over."""


class AravisConnection:
    """A camera that is held. `control` may be entered by any thread, the rest is its owner's.

    Args:
        lib: The library.
        name: The camera, as the library finds it.

    Raises:
        CameraLostError: It cannot be reached.
        ValueError: It answered and refused.
    """

    def __init__(self, lib: AravisLibrary, name: str) -> None:
        self._lib = lib
        self._name = name
        self._feature_types: dict[str, str] = {}
        self._control_lock = threading.Lock()
        self._blocks: list[tuple[int, int]] = []
        self.camera: int = lib.camera_new(name.encode())
        self.device: int = lib.camera_get_device(self.camera)
        # Else a value beyond the camera's limits is written, and does who knows what.
        lib.device_set_range_check_policy(self.device, POLICY_CHECK)
        lib.device_set_access_check_policy(self.device, POLICY_CHECK)
        self.is_gige = bool(lib.camera_is_gv_device(self.camera))
        if self.is_gige and not lib.gv_device_is_controller(self.device):
            # The library opens it all the same; then every write runs into a time-out.
            lib.unref(self.camera)
            raise CameraLostError("another program holds it")
        self.stream: int = 0
        self.buffer_arrays: dict[int, NDArray[np.uint8]] = {}
        """Buffer to its memory."""
        self.is_closed = False

    @contextmanager
    def control(self) -> Iterator[None]:
        """The control channel, held for one call; the connection is not freed meanwhile.

        Raises:
            CameraLostError: The connection is over.
        """
        with self._control_lock:
            if self.is_closed:
                raise CameraLostError("is not open", where=self._name)
            yield

    def queue_buffers(self, count: int, size_bytes: int) -> None:
        """Give the stream its buffers."""
        for _ in range(count):
            address, memory = acquire_block(size_bytes)
            buffer = self._lib.buffer_new(size_bytes, address)
            self.buffer_arrays[buffer] = memory
            self._blocks.append((size_bytes, address))
            self._lib.stream_push_buffer(self.stream, buffer)

    # -- features ---------------------------------------------------------------------

    def read(self, feature: str) -> FeatureValue | None:
        """A feature's value; None if there is none. `control` is held."""
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
        """Set a feature. `control` is held.

        Raises:
            ValueError: It is refused.
        """
        lib, device, name = self._lib, self.device, feature.encode()
        kind = self._feature_type(feature)
        if kind in ("enumeration", "string"):
            lib.device_set_string_feature_value(device, name, str(value).encode())
        elif isinstance(value, str):
            raise ValueError(f"it takes a {kind}")
        elif kind == "boolean":
            lib.device_set_boolean_feature_value(device, name, bool(value))
        elif kind == "float":
            lib.device_set_float_feature_value(device, name, float(value))
        elif kind == "integer" and value == int(value):
            lib.device_set_integer_feature_value(device, name, int(value))
        else:
            raise ValueError(f"it takes a {kind or 'command'}")

    def _feature_type(self, feature: str) -> str:
        if feature not in self._feature_types:
            node = self._lib.device_get_feature(self.device, feature.encode())
            self._feature_types[feature] = self._lib.feature_type(node) if node else ""
        return self._feature_types[feature]

    # -- the end ----------------------------------------------------------------------

    def close(self, wait_s: float) -> None:
        """Let go of the camera in a thread of its own, and wait for that so long.

        A dead camera lets each command wait for its answer, several seconds in all.
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
            pass  # gone already
        with self._control_lock:
            if self.stream:
                lib.unref(self.stream)
            lib.unref(self.camera)
        for block in self._blocks:
            release_block(*block)
        done.set()


def wait_until_closed(name: str, wait_s: float) -> bool:
    """False if the last connection to a camera is still being let go after `wait_s`.

    Its last command gives up the control of the camera. If that came after a new connection
    had taken control, the camera would answer the new one no more.
    """
    done = _closing.get(name)
    return done is None or done.wait(wait_s)
