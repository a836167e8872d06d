"""libaravis 0.8 through ctypes, without headers or PyGObject.

ctypes releases the interpreter lock during every call, also while waiting for a buffer.
Source: Aravis 0.8 API reference (aravisproject.github.io/aravis).
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
import functools
from collections.abc import Callable
from typing import Any

from edgeinspect.errors import CameraLostError, MissingLibraryError

PACKET_SOCKET_DISABLED = 1
POLICY_CHECK = 1
SOCKET_BUFFER_FIXED = 0
RESEND_NEVER, RESEND_ALWAYS = 0, 1
BUFFER_SUCCESS = 0
BUFFER_PROBLEMS = {
    -1: "unknown",
    1: "buffer not filled",
    2: "time-out of a packet",
    3: "missing packets",
    4: "wrong packet id",
    5: "larger than its buffer",
    6: "buffer not filled completely",
    7: "transfer aborted",
    8: "payload is not an image",
}
"""ArvBufferStatus to its description."""
_LOST_ERROR_CODES = (2, 4, 5, 6, 10)
"""ArvDeviceError: not connected, transfer, timeout, not found, not controller."""

_P, _S, _I, _D, _U64 = c.c_void_p, c.c_char_p, c.c_int, c.c_double, c.c_uint64
_SIZE_P, _U64_P = c.POINTER(c.c_size_t), c.POINTER(c.c_uint64)

# Name after `arv_`: (result, arguments, True if the last argument is a GError**).
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], bool]] = {
    "camera_new": (_P, (_S,), True),
    "camera_get_device": (_P, (_P,), False),
    "camera_is_gv_device": (_I, (_P,), False),
    "camera_gv_set_stream_options": (None, (_P, _I), False),
    "camera_gv_set_packet_size": (None, (_P, _I), True),
    "camera_gv_get_packet_size": (c.c_uint, (_P,), True),
    "camera_gv_auto_packet_size": (c.c_uint, (_P,), True),
    "camera_gv_set_packet_delay": (None, (_P, c.c_int64), True),
    "camera_create_stream": (_P, (_P, _P, _P), True),
    "camera_get_payload": (c.c_uint, (_P,), True),
    "camera_start_acquisition": (None, (_P,), True),
    "camera_stop_acquisition": (None, (_P,), True),
    "gv_device_is_controller": (_I, (_P,), False),
    "device_set_range_check_policy": (None, (_P, _I), False),
    "device_set_access_check_policy": (None, (_P, _I), False),
    "device_get_feature": (_P, (_P, _S), False),
    "device_is_feature_available": (_I, (_P, _S), True),
    "device_execute_command": (None, (_P, _S), True),
    "device_get_string_feature_value": (_S, (_P, _S), True),
    "device_set_string_feature_value": (None, (_P, _S, _S), True),
    "device_get_integer_feature_value": (c.c_int64, (_P, _S), True),
    "device_set_integer_feature_value": (None, (_P, _S, c.c_int64), True),
    "device_get_float_feature_value": (_D, (_P, _S), True),
    "device_set_float_feature_value": (None, (_P, _S, _D), True),
    "device_get_boolean_feature_value": (_I, (_P, _S), True),
    "device_set_boolean_feature_value": (None, (_P, _S, _I), True),
    "stream_push_buffer": (None, (_P, _P), False),
    "stream_timeout_pop_buffer": (_P, (_P, _U64), False),
    "stream_get_statistics": (None, (_P, _U64_P, _U64_P, _U64_P), False),
    "gv_stream_get_statistics": (None, (_P, _U64_P, _U64_P), False),
    "buffer_new": (_P, (c.c_size_t, _P), False),
    "buffer_get_status": (_I, (_P,), False),
    "buffer_get_data": (_P, (_P, _SIZE_P), False),
    "buffer_get_frame_id": (_U64, (_P,), False),
    "buffer_get_timestamp": (_U64, (_P,), False),
    "buffer_get_system_timestamp": (_U64, (_P,), False),
    "buffer_get_image_width": (_I, (_P,), False),
    "buffer_get_image_height": (_I, (_P,), False),
    "buffer_get_image_pixel_format": (c.c_uint32, (_P,), False),
    "gc_enumeration_get_type": (c.c_size_t, (), False),
    "gc_boolean_get_type": (c.c_size_t, (), False),
    "gc_command_get_type": (c.c_size_t, (), False),
    "gc_float_get_type": (c.c_size_t, (), False),
    "gc_integer_get_type": (c.c_size_t, (), False),
    "gc_string_get_type": (c.c_size_t, (), False),
    "device_error_quark": (c.c_uint32, (), False),
}


class _GError(c.Structure):
    _fields_ = (("domain", c.c_uint32), ("code", c.c_int), ("message", c.c_char_p))


class AravisLibrary:
    """The library's functions by name without `arv_`. Thread-safe, as the library is.

    A function that fails raises `CameraLostError` if the device cannot be reached, and
    `ValueError` if the device refuses.
    """

    def __init__(self, library: c.CDLL, gobject: c.CDLL, glib: c.CDLL) -> None:
        self._gobject = gobject
        self._free_error = glib.g_error_free
        self._free_error.argtypes = (_P,)
        self._free_error.restype = None
        gobject.g_object_unref.argtypes = (_P,)
        gobject.g_object_unref.restype = None
        gobject.g_type_check_instance_is_a.argtypes = (_P, c.c_size_t)
        gobject.g_type_check_instance_is_a.restype = c.c_int
        for name, (result, arguments, fails) in _FUNCTIONS.items():
            function = getattr(library, f"arv_{name}")
            function.restype = result
            function.argtypes = (*arguments, _P) if fails else arguments
            setattr(self, name, self._raising(function) if fails else function)
        self._lost_domain = self.device_error_quark()
        self.feature_types: tuple[tuple[str, int], ...] = tuple(
            (name, getattr(self, f"gc_{name}_get_type")())
            for name in ("enumeration", "boolean", "command", "float", "string", "integer")
        )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def feature_type(self, node: int) -> str:
        """Return the type of a feature node, such as `integer`; empty if unknown."""
        is_a = self._gobject.g_type_check_instance_is_a
        return next((name for name, type_id in self.feature_types if is_a(node, type_id)), "")

    def set_properties(self, instance: int, **values: int) -> None:
        """Set unsigned or enumeration properties of a GObject; `_` in a name is `-`."""
        setter = self._gobject.g_object_set
        setter.restype = None
        for name, value in values.items():
            key = c.c_char_p(name.replace("_", "-").encode())
            setter(c.c_void_p(instance), key, c.c_uint(value), c.c_void_p(None))

    def unref(self, instance: int) -> None:
        """Release a GObject."""
        self._gobject.g_object_unref(instance)

    def _raising(self, function: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            error: Any = c.POINTER(_GError)()
            result = function(*arguments, c.byref(error))
            if not bool(error):  # a null pointer: no error
                return result
            raise self._to_exception(error)

        return call

    def _to_exception(self, error: Any) -> Exception:
        domain, code = error.contents.domain, error.contents.code
        message = (error.contents.message or b"").decode(errors="replace")
        self._free_error(error)
        if domain == self._lost_domain and code in _LOST_ERROR_CODES:
            return CameraLostError(message)
        return ValueError(message)


@functools.cache
def load_library() -> AravisLibrary:
    """Load the library, once per process.

    Raises:
        MissingLibraryError: It is not installed.
    """
    try:
        return AravisLibrary(
            c.CDLL("libaravis-0.8.so.0"), c.CDLL("libgobject-2.0.so.0"), c.CDLL("libglib-2.0.so.0")
        )
    except OSError as error:
        raise MissingLibraryError(
            "libaravis-0.8.so.0", "apt-get install libaravis-0.8-0"
        ) from error
