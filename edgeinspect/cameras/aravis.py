"""GigE Vision and USB3 Vision cameras through libaravis, without a copy.

A frame's pixels are the very buffer that Aravis received them into, until `release`. The
buffers are never freed (`_blocks.py`), so pixels that somebody keeps too long are stale, no more.
Source: docs/decisions/0013-cameras.md
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
"""How long `close` waits for a camera to be let go: a dead one takes seconds, and the line
does not wait for it. The next connection does, for it would find the camera taken."""


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


class AravisDevice:
    """One camera behind libaravis. See `_device.Device` for threads."""

    def __init__(self, options: Options, clock: Clock, aravis: AravisLibrary) -> None:
        self._options = options
        self._clock = clock
        self._lib = aravis
        self._connection: AravisConnection | None = None
        self._checked_at_ns = 0
        self._is_silent = False
        """True if the last wait for a frame was in vain: it may be dead."""

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
            raise CameraLostError("is still being let go", where=name)
        try:
            session = AravisConnection(self._lib, name)
        except (CameraLostError, ValueError) as error:
            raise CameraLostError(
                f"cannot be opened: {error}",
                where=name,
                remedy="`arv-tool-0.8` lists the cameras it finds; one program may hold it",
            ) from error
        self._connection = session
        if session.is_gige:
            self._configure_network(session)

    def read(self, feature: str) -> FeatureValue | None:
        session = self._require_connection()
        with session.control():
            try:
                return session.read(feature)
            except ValueError:
                return None  # write-only, or locked in this state

    def write(self, feature: str, value: FeatureValue) -> None:
        session = self._require_connection()
        with session.control():
            session.write(feature, value)

    def execute(self, command: str) -> None:
        session = self._require_connection()
        with session.control():
            try:
                self._lib.device_execute_command(session.device, command.encode())
            except ValueError as error:
                problem = f"{command} is refused: {error}"
                raise CameraLostError(problem, where=self.where) from error

    def start(self) -> None:
        session, lib, options = self._require_connection(), self._lib, self._options
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
            session.queue_buffers(options.buffers, size_bytes)
            lib.camera_start_acquisition(session.camera)
        except ValueError as error:
            raise CameraLostError(f"does not start: {error}", where=self.where) from error

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        session, lib = self._require_connection(), self._lib
        buffer = lib.stream_timeout_pop_buffer(session.stream, max(1, timeout_ns // NS_PER_US))
        self._is_silent = not buffer
        if not buffer:
            self._check_connected(session)
            return None
        status = lib.buffer_get_status(buffer)
        problem, data = "", None
        if status == BUFFER_SUCCESS:
            data = session.buffer_arrays[buffer]
        else:
            problem = f"incomplete: {BUFFER_PROBLEMS.get(status, f'status {status}')}"
        code = lib.buffer_get_image_pixel_format(buffer) if data is not None else 0
        form = FORMATS_BY_CODE.get(code)
        return DeviceBuffer(
            token=(session, buffer),
            frame_id=lib.buffer_get_frame_id(buffer),
            arrived_at_ns=(
                self._to_monotonic_ns(lib.buffer_get_system_timestamp(buffer))
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

    def requeue_buffer(self, token: object) -> None:
        assert isinstance(token, tuple)
        session, buffer = token
        if not session.over:
            self._lib.stream_push_buffer(session.stream, buffer)

    def stream_statistics(self) -> StreamStatistics:
        session = self._connection
        if session is None or not session.stream:
            return StreamStatistics()
        first, second, third = (ctypes.c_uint64() for _ in range(3))
        refs = [ctypes.byref(one) for one in (first, second, third)]
        self._lib.stream_get_statistics(session.stream, *refs)
        underruns = third.value
        resends = 0
        if session.is_gige:
            self._lib.gv_stream_get_statistics(session.stream, *refs[:2])
            resends = first.value
        return StreamStatistics(resends, underruns)

    def close(self) -> None:
        session, self._connection = self._connection, None
        if session is None:
            return
        session.close(_CLOSE_TIMEOUT_SILENT_S if self._is_silent else _CLOSE_TIMEOUT_S)

    def _require_connection(self) -> AravisConnection:
        session = self._connection
        if session is None:
            raise CameraLostError("is not open", where=self.where)
        return session

    def _check_connected(self, connection: AravisConnection) -> None:
        """Whether the library still holds the camera: it finds out within 5 s."""
        if connection.is_gige:
            there = bool(self._lib.gv_device_is_controller(connection.device))
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
        """The receiving thread's wall time stamp, on the monotonic clock."""
        now_ns = self._clock.now_ns()
        age_ns = now_ns + read_utc_offset_ns(self._clock) - system_ns
        return now_ns - age_ns if 0 <= age_ns < NS_PER_S else now_ns


def build(options: Options, clock: Clock) -> Camera:
    """An Aravis camera, not yet opened.

    Raises:
        MissingLibraryError: libaravis is not installed.
    """
    device = AravisDevice(options, clock, load_library())
    return wrap_line_scan(GenicamCamera(device, options, clock), options.rows)
