"""GigE Vision and USB3 Vision cameras through libaravis, without a copy.

A frame's pixels are a view of the buffer in which Aravis received them, until `release`. Buffers
are never freed (`_aravis/connection.py`): pixels used after `release` are stale, but valid memory.
Source: docs/explanation/decisions/0013-cameras.md
"""

from __future__ import annotations

import ctypes
from typing import Annotated

from msgspec import Meta

from edgeinspect.cameras._aravis.connection import AravisConnection, wait_until_closed
from edgeinspect.cameras._aravis.library import (
    BUFFER_PROBLEMS,
    BUFFER_SUCCESS,
    PACKET_SOCKET_DISABLED,
    RESEND_ALWAYS,
    RESEND_NEVER,
    SOCKET_BUFFER_FIXED,
    AravisLibrary,
    load_library,
)
from edgeinspect.cameras._genicam.camera import GenicamCamera
from edgeinspect.cameras._genicam.device import DeviceBuffer, FeatureValue, StreamStatistics
from edgeinspect.cameras._genicam.line_scan import wrap_line_scan
from edgeinspect.cameras._genicam.options import GenicamOptions
from edgeinspect.cameras._genicam.pixel_format import FORMATS_BY_CODE
from edgeinspect.domain import NS_PER_S, NS_PER_US, Clock, read_utc_offset_ns
from edgeinspect.errors import CameraLostError
from edgeinspect.ports import Camera

_CLOSE_TIMEOUT_S, _CLOSE_TIMEOUT_SILENT_S = 2.0, 0.1
"""Longest wait of `close`; a dead camera takes seconds, and the line does not wait for it. The
next connection waits for the end, as it would find the camera in use."""


class Options(GenicamOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: aravis`."""

    device: str
    """Name as listed by `arv-tool-0.8` (maker and serial number), or the camera's address."""
    buffers: Annotated[int, Meta(ge=2, le=1024)] = 16
    """Number of frame buffers, allocated at start."""
    packet_size: Annotated[int, Meta(ge=220, le=16_404)] | None = None
    """GigE: bytes of a packet, read back at start; absent: the camera's value. 9000 requires
    jumbo frames on the whole path."""
    packet_delay_ns: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    """GigE: pause between packets, for cameras that share a link."""
    packet_resend: bool = True
    """GigE: request lost packets again, within `frame_retention_ms`."""
    packet_timeout_ms: Annotated[float, Meta(ge=1, le=10_000)] = 20
    """GigE: wait for a packet before it is requested again."""
    frame_retention_ms: Annotated[float, Meta(ge=1, le=10_000)] = 50
    """GigE: longest wait for the rest of a frame, which is then incomplete."""
    packet_socket: bool = False
    """GigE: receive through a packet socket, with less load. Requires CAP_NET_RAW; receives
    nothing on the loopback interface."""
    socket_buffer_bytes: Annotated[int, Meta(ge=65_536, le=1 << 30)] = 4 << 20
    """GigE: the kernel's receive buffer; limited to `net.core.rmem_max`."""


class AravisDevice:
    """One camera behind libaravis. For threads see `_genicam.device.GenicamDevice`."""

    def __init__(self, options: Options, clock: Clock, aravis: AravisLibrary) -> None:
        self._options = options
        self._clock = clock
        self._lib = aravis
        self._connection: AravisConnection | None = None
        self._checked_at_ns = 0
        self._is_silent = False
        """True if the last wait for a frame timed out: the camera may be dead."""

    @property
    def where(self) -> str:
        return self._options.device

    @property
    def frame_id_max(self) -> int:
        return 65_535 if self._connection is None or self._connection.is_gige else 0

    def connect(self) -> None:
        name = self._options.device
        self._is_silent = False
        if not wait_until_closed(name, _CLOSE_TIMEOUT_S):
            raise CameraLostError("the previous connection is still closing", where=name)
        try:
            connection = AravisConnection(self._lib, name)
        except (CameraLostError, ValueError) as error:
            raise CameraLostError(
                f"cannot be opened: {error}",
                where=name,
                remedy="`arv-tool-0.8` lists the cameras; another program may control this one",
            ) from error
        self._connection = connection
        if connection.is_gige:
            self._configure_network(connection)

    def read(self, feature: str) -> FeatureValue | None:
        connection = self._require_connection()
        with connection.control():
            try:
                return connection.read(feature)
            except ValueError:
                return None  # write-only or locked in this state

    def write(self, feature: str, value: FeatureValue) -> None:
        connection = self._require_connection()
        with connection.control():
            connection.write(feature, value)

    def execute(self, command: str) -> None:
        connection = self._require_connection()
        with connection.control():
            try:
                self._lib.device_execute_command(connection.device, command.encode())
            except ValueError as error:
                problem = f"{command} is refused: {error}"
                raise CameraLostError(problem, where=self.where) from error

    def start(self) -> None:
        connection, lib, options = self._require_connection(), self._lib, self._options
        try:
            connection.stream = lib.camera_create_stream(connection.camera, None, None)
            if connection.is_gige:
                lib.set_properties(
                    connection.stream,
                    socket_buffer=SOCKET_BUFFER_FIXED,
                    socket_buffer_size=options.socket_buffer_bytes,
                    packet_resend=RESEND_ALWAYS if options.packet_resend else RESEND_NEVER,
                    packet_timeout=round(options.packet_timeout_ms * 1000),
                    frame_retention=round(options.frame_retention_ms * 1000),
                )
            size_bytes = lib.camera_get_payload(connection.camera)
            connection.queue_buffers(options.buffers, size_bytes)
            lib.camera_start_acquisition(connection.camera)
        except ValueError as error:
            raise CameraLostError(f"does not start: {error}", where=self.where) from error

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        connection, lib = self._require_connection(), self._lib
        buffer = lib.stream_timeout_pop_buffer(connection.stream, max(1, timeout_ns // NS_PER_US))
        self._is_silent = not buffer
        if not buffer:
            self._check_connected(connection)
            return None
        token, frame_id = (connection, buffer), lib.buffer_get_frame_id(buffer)
        status = lib.buffer_get_status(buffer)
        if status != BUFFER_SUCCESS:
            problem = f"incomplete: {BUFFER_PROBLEMS.get(status, f'status {status}')}"
            # Without its first packet the buffer has an old time stamp.
            return DeviceBuffer(token, frame_id, self._clock.now_ns(), problem=problem)
        code = lib.buffer_get_image_pixel_format(buffer)
        pixel_format = FORMATS_BY_CODE.get(code)
        return DeviceBuffer(
            token=token,
            frame_id=frame_id,
            arrived_at_ns=self._to_monotonic_ns(lib.buffer_get_system_timestamp(buffer)),
            device_ns=lib.buffer_get_timestamp(buffer),
            data=connection.buffer_arrays[buffer],
            height_px=lib.buffer_get_image_height(buffer),
            width_px=lib.buffer_get_image_width(buffer),
            pixel_format=pixel_format.name if pixel_format else f"0x{code:08X}",
        )

    def requeue_buffer(self, token: object) -> None:
        assert isinstance(token, tuple)
        connection, buffer = token
        if not connection.is_closed:
            self._lib.stream_push_buffer(connection.stream, buffer)

    def stream_statistics(self) -> StreamStatistics:
        connection = self._connection
        if connection is None or not connection.stream:
            return StreamStatistics()
        first, second, third = (ctypes.c_uint64() for _ in range(3))
        refs = [ctypes.byref(one) for one in (first, second, third)]
        self._lib.stream_get_statistics(connection.stream, *refs)
        underruns = third.value
        resends = 0
        if connection.is_gige:
            self._lib.gv_stream_get_statistics(connection.stream, *refs[:2])
            resends = first.value
        return StreamStatistics(resends, underruns)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close(_CLOSE_TIMEOUT_SILENT_S if self._is_silent else _CLOSE_TIMEOUT_S)

    def _require_connection(self) -> AravisConnection:
        connection = self._connection
        if connection is None:
            raise CameraLostError("is not open", where=self.where)
        return connection

    def _check_connected(self, connection: AravisConnection) -> None:
        """Raise if the library has lost the camera, which it detects within 5 s."""
        if connection.is_gige:
            is_connected = bool(self._lib.gv_device_is_controller(connection.device))
        else:
            now_ns = self._clock.now_ns()
            if now_ns - self._checked_at_ns < NS_PER_S:
                return
            self._checked_at_ns = now_ns
            is_connected = self.read("PayloadSize") is not None
        if not is_connected:
            raise CameraLostError(
                "does not respond", where=self.where, remedy="Check its cable and power"
            )

    def _configure_network(self, connection: AravisConnection) -> None:
        lib, options = self._lib, self._options
        lib.camera_gv_set_stream_options(
            connection.camera, 0 if options.packet_socket else PACKET_SOCKET_DISABLED
        )
        try:
            if options.packet_size is not None:
                lib.camera_gv_set_packet_size(connection.camera, options.packet_size)
            if options.packet_delay_ns is not None:
                lib.camera_gv_set_packet_delay(connection.camera, options.packet_delay_ns)
        except ValueError as error:
            raise CameraLostError(f"refuses its packet size or delay: {error}") from error

    def _to_monotonic_ns(self, system_ns: int) -> int:
        """Map the wall time of the library's receiving thread to the monotonic clock."""
        now_ns = self._clock.now_ns()
        age_ns = now_ns + read_utc_offset_ns(self._clock) - system_ns
        return now_ns - age_ns if 0 <= age_ns < NS_PER_S else now_ns


def build(options: Options, clock: Clock) -> Camera:
    """Return an Aravis camera, not yet opened.

    Raises:
        MissingLibraryError: libaravis is not installed.
    """
    device = AravisDevice(options, clock, load_library())
    return wrap_line_scan(GenicamCamera(device, options, clock), options.rows)
