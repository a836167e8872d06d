"""GigE Vision and USB3 Vision cameras through libaravis, without a copy.

A frame's pixels are the very buffer that Aravis received them into, until `release`. The
buffers are never freed (`_blocks.py`), so pixels that somebody keeps too long are stale, no more.
Source: docs/decisions/0013-cameras.md
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgeinspect.cameras._aravis_lib import (
    BUFFER_PROBLEMS,
    BUFFER_SUCCESS,
    CHECK,
    PACKET_SOCKET_DISABLED,
    RESEND_ALWAYS,
    RESEND_NEVER,
    SOCKET_BUFFER_FIXED,
    Aravis,
    load,
)
from edgeinspect.cameras._blocks import borrow, put_back
from edgeinspect.cameras._device import Delivery, Setting, StreamCounts
from edgeinspect.cameras._device_camera import DeviceCamera
from edgeinspect.cameras._genicam import GenicamOptions
from edgeinspect.cameras._pixel_format import BY_CODE
from edgeinspect.cameras._rows import assemble
from edgeinspect.domain.clock import NS_PER_S, NS_PER_US, Clock
from edgeinspect.errors import CameraLostError
from edgeinspect.ports import Camera

_CLOSE_S = 0.1
"""How long a caller waits for a camera to be let go; a dead one takes seconds."""


class Options(GenicamOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: aravis`."""

    device: str
    """Name as `arv-tool-0.8` lists it (maker and serial number), or the camera's address."""
    buffers: Annotated[int, Meta(ge=2, le=1024)] = 16
    """Frames that may wait; allocated at start."""
    packet_size: Annotated[int, Meta(ge=220, le=16_404)] | None = None
    """GigE: bytes of a packet, read back at start; the camera's own when absent. 9000 needs
    jumbo frames on the whole way."""
    packet_delay_ns: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    """GigE: pause between packets, for cameras that share a cable."""
    packet_resend: bool = True
    """GigE: ask for lost packets again, within `frame_retention_ms`."""
    packet_timeout_ms: Annotated[float, Meta(ge=1, le=10_000)] = 20
    """GigE: wait for a packet before it is asked for again."""
    frame_retention_ms: Annotated[float, Meta(ge=1, le=10_000)] = 50
    """GigE: longest wait for the rest of a frame; then it is incomplete."""
    packet_socket: bool = False
    """GigE: receive below the kernel's UDP, with less load. Needs CAP_NET_RAW, and gets no
    frame on the loopback interface."""
    socket_buffer_bytes: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 4 << 20
    """GigE: the kernel's buffer; more than `net.core.rmem_max` is cut to it."""


@dataclass(slots=True)
class _Session:
    """What one connection holds. After `close` only the thread that frees it touches it."""

    camera: int
    device: int
    is_gige: bool = False
    stream: int = 0
    memory: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Buffer to its memory."""
    blocks: list[tuple[int, int]] = field(default_factory=list)
    over: bool = False
    control: threading.Lock = field(default_factory=threading.Lock)
    """Held while a call on the control channel runs, and when the connection is freed."""


class AravisDevice:
    """One camera behind libaravis. See `_device.Device` for threads."""

    def __init__(self, options: Options, clock: Clock, aravis: Aravis) -> None:
        self._options = options
        self._clock = clock
        self._lib = aravis
        self._session: _Session | None = None
        self._kinds: dict[str, str] = {}
        self._checked_at_ns = 0

    @property
    def where(self) -> str:
        return self._options.device

    @property
    def id_wraps_at(self) -> int:
        return 65_535 if self._session is None or self._session.is_gige else 0

    def connect(self) -> None:
        lib = self._lib
        try:
            camera = lib.camera_new(self._options.device.encode())
        except (CameraLostError, ValueError) as error:
            raise CameraLostError(
                f"cannot be opened: {error}",
                where=self.where,
                remedy="`arv-tool-0.8` lists the cameras it finds; one program may hold it",
            ) from error
        session = _Session(camera, lib.camera_get_device(camera))
        # Else a value beyond the camera's limits is written, and does who knows what.
        lib.device_set_range_check_policy(session.device, CHECK)
        lib.device_set_access_check_policy(session.device, CHECK)
        session.is_gige = bool(lib.camera_is_gv_device(camera))
        self._kinds.clear()
        self._session = session
        if session.is_gige:
            self._set_up_network(session)

    def read(self, feature: str) -> Setting | None:
        with self._controlled() as session:
            try:
                return self._read(session, feature, self._kind(session, feature))
            except ValueError:
                return None  # write-only, or locked in this state

    def write(self, feature: str, value: Setting) -> None:
        with self._controlled() as session:
            self._write(session, feature, value, self._kind(session, feature))

    def execute(self, command: str) -> None:
        with self._controlled() as session:
            try:
                self._lib.device_execute_command(session.device, command.encode())
            except ValueError as error:
                problem = f"{command} is refused: {error}"
                raise CameraLostError(problem, where=self.where) from error

    def start(self) -> None:
        session, lib, options = self._live(), self._lib, self._options
        try:
            session.stream = lib.camera_create_stream(session.camera, None, None)
            if session.is_gige:
                lib.set_properties(
                    session.stream,
                    socket_buffer=SOCKET_BUFFER_FIXED,
                    socket_buffer_size=options.socket_buffer_bytes,
                    packet_resend=RESEND_ALWAYS if options.packet_resend else RESEND_NEVER,
                    packet_timeout=round(options.packet_timeout_ms * 1000),
                    frame_retention=round(options.frame_retention_ms * 1000),
                )
            size_bytes = lib.camera_get_payload(session.camera)
            for _ in range(options.buffers):
                address, memory = borrow(size_bytes)
                buffer = lib.buffer_new(size_bytes, address)
                session.memory[buffer] = memory
                session.blocks.append((size_bytes, address))
                lib.stream_push_buffer(session.stream, buffer)
            lib.camera_start_acquisition(session.camera)
        except ValueError as error:
            raise CameraLostError(f"does not start: {error}", where=self.where) from error

    def take(self, timeout_ns: int) -> Delivery | None:
        session, lib = self._live(), self._lib
        buffer = lib.stream_timeout_pop_buffer(session.stream, max(1, timeout_ns // NS_PER_US))
        if not buffer:
            self._check_there(session)
            return None
        status = lib.buffer_get_status(buffer)
        problem, data = "", None
        if status == BUFFER_SUCCESS:
            data = session.memory[buffer]
        else:
            problem = f"incomplete: {BUFFER_PROBLEMS.get(status, f'status {status}')}"
        code = lib.buffer_get_image_pixel_format(buffer) if data is not None else 0
        form = BY_CODE.get(code)
        return Delivery(
            token=(session, buffer),
            frame_id=lib.buffer_get_frame_id(buffer),
            arrived_at_ns=(
                self._arrival(lib.buffer_get_system_timestamp(buffer))
                if data is not None
                else self._clock.now_ns()  # without its first packet it bears an old stamp
            ),
            device_ns=lib.buffer_get_timestamp(buffer) if data is not None else None,
            data=data,
            height_px=lib.buffer_get_image_height(buffer) if data is not None else 0,
            width_px=lib.buffer_get_image_width(buffer) if data is not None else 0,
            pixel_format=form.name if form else f"0x{code:08X}",
            problem=problem,
        )

    def give_back(self, token: object) -> None:
        assert isinstance(token, tuple)
        session, buffer = token
        if not session.over:
            self._lib.stream_push_buffer(session.stream, buffer)

    def stream_counts(self) -> StreamCounts:
        session = self._session
        if session is None or not session.stream:
            return StreamCounts()
        first, second, third = (ctypes.c_uint64() for _ in range(3))
        refs = [ctypes.byref(one) for one in (first, second, third)]
        self._lib.stream_get_statistics(session.stream, *refs)
        underruns = third.value
        resends = 0
        if session.is_gige:
            self._lib.gv_stream_get_statistics(session.stream, *refs[:2])
            resends = first.value
        return StreamCounts(resends, underruns)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        session.over = True
        done = threading.Event()
        _undertaker().put((self._lib, session, done))
        done.wait(_CLOSE_S)

    def _live(self) -> _Session:
        session = self._session
        if session is None:
            raise CameraLostError("is not open", where=self.where)
        return session

    @contextmanager
    def _controlled(self) -> Iterator[_Session]:
        session = self._live()
        with session.control:
            if session.over:
                raise CameraLostError("is not open", where=self.where)
            yield session

    def _kind(self, session: _Session, feature: str) -> str:
        if feature not in self._kinds:
            node = self._lib.device_get_feature(session.device, feature.encode())
            self._kinds[feature] = self._lib.kind(node) if node else ""
        return self._kinds[feature]

    def _read(self, session: _Session, feature: str, kind: str) -> Setting | None:
        lib, device, name = self._lib, session.device, feature.encode()
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

    def _write(self, session: _Session, feature: str, value: Setting, kind: str) -> None:
        lib, device, name = self._lib, session.device, feature.encode()
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

    def _check_there(self, session: _Session) -> None:
        """Whether the library still holds the camera: it finds out within 5 s."""
        if session.is_gige:
            there = bool(self._lib.gv_device_is_controller(session.device))
        else:
            now_ns = self._clock.now_ns()
            if now_ns - self._checked_at_ns < NS_PER_S:
                return
            self._checked_at_ns = now_ns
            there = self.read("PayloadSize") is not None
        if not there:
            raise CameraLostError(
                "does not answer any more", where=self.where, remedy="Check its cable and power"
            )

    def _set_up_network(self, session: _Session) -> None:
        lib, options = self._lib, self._options
        lib.camera_gv_set_stream_options(
            session.camera, 0 if options.packet_socket else PACKET_SOCKET_DISABLED
        )
        try:
            if options.packet_size is not None:
                lib.camera_gv_set_packet_size(session.camera, options.packet_size)
            if options.packet_delay_ns is not None:
                lib.camera_gv_set_packet_delay(session.camera, options.packet_delay_ns)
        except ValueError as error:
            raise CameraLostError(f"refuses its packet size or delay: {error}") from error

    def _arrival(self, system_ns: int) -> int:
        """The receiving thread's wall time stamp, on the monotonic clock."""
        now_ns = self._clock.now_ns()
        age_ns = self._clock.utc_ns() - system_ns
        return now_ns - age_ns if 0 <= age_ns < NS_PER_S else now_ns


_graves: queue.SimpleQueue[tuple[Aravis, _Session, threading.Event]] = queue.SimpleQueue()
_grave_lock = threading.Lock()
_grave_thread: threading.Thread | None = None


def _undertaker() -> queue.SimpleQueue[tuple[Aravis, _Session, threading.Event]]:
    """Where finished connections go: letting go of a dead camera waits for its answers."""
    global _grave_thread
    with _grave_lock:
        if _grave_thread is None or not _grave_thread.is_alive():
            _grave_thread = threading.Thread(target=_bury, name="aravis-close", daemon=True)
            _grave_thread.start()
    return _graves


def _bury() -> None:
    while True:
        lib, session, done = _graves.get()
        try:
            if session.stream:
                lib.camera_stop_acquisition(session.camera)
        except (CameraLostError, ValueError):
            pass  # gone already
        with session.control:
            if session.stream:
                lib.unref(session.stream)
            lib.unref(session.camera)
        for block in session.blocks:
            put_back(*block)
        done.set()


def build(options: Options, clock: Clock) -> Camera:
    """An Aravis camera, not yet opened.

    Raises:
        MissingLibraryError: libaravis is not installed.
    """
    device = AravisDevice(options, clock, load())
    return assemble(DeviceCamera(device, options, clock), options.rows)
