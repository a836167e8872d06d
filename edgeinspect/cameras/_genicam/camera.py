"""A GenICam camera over any `GenicamDevice`: settings, pixels, triggers, clocks and losses."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

import numpy as np
from msgspec.structs import replace

from edgeinspect.cameras._genicam.clock_sync import ClockSynchronizer
from edgeinspect.cameras._genicam.device import (
    DeviceBuffer,
    GenicamDevice,
    StreamStatistics,
    WrappingCounter,
)
from edgeinspect.cameras._genicam.features import apply_features, find_feature
from edgeinspect.cameras._genicam.options import GenicamOptions, list_features
from edgeinspect.cameras._genicam.pixel_format import PixelConverter, find_format
from edgeinspect.cameras._genicam.trigger_matching import LostFrame, TriggerMatch, TriggerMatcher
from edgeinspect.cameras._genicam.trigger_sender import TriggerSender
from edgeinspect.domain import (
    FRAME_NOT_RECEIVED,
    NO_PART,
    NS_PER_MS,
    NS_PER_S,
    TRIGGER_EXPIRED,
    CameraCounts,
    Clock,
    ClockSource,
    FrameGapDetector,
    Grab,
    Part,
    Pixels,
)
from edgeinspect.errors import CameraLostError, UsageError
from edgeinspect.ports import CameraStatistics, DelayReportingCamera, LossReportingCamera

UNANSWERED_TRIGGERS_MAX = 3
"""After this many triggers in a row without a frame the camera counts as lost."""
_POOL_MAX = 16
"""Most pixel arrays that are kept for reuse."""


class GenicamCamera(LossReportingCamera, CameraStatistics, DelayReportingCamera):
    """One GenICam camera. For threads see `ports.Camera`; `counts` is thread-safe."""

    reports_lost_frames = True
    """Each lost frame or trigger is delivered as a grab marked `lost`."""

    def __init__(self, device: GenicamDevice, options: GenicamOptions, clock: Clock) -> None:
        self._device = device
        self._options = options
        self._clock = clock
        self._triggers = TriggerMatcher(round(options.trigger_timeout_ms * NS_PER_MS))
        self._trigger_sender = TriggerSender(device, self._triggers, clock)
        self._ready_grabs: deque[Grab] = deque()
        self._leased: dict[int, object] = {}
        self._pool: list[Pixels] = []
        self._counts = CameraCounts()
        self._past_statistics = self._statistics = StreamStatistics()
        self._refresh_at_ns = 0
        self._period_ns: int | None = None
        self._gaps = FrameGapDetector()
        self._lost_error: CameraLostError | None = None
        self._temperature_feature: str | None = None
        self._control_lock = threading.Lock()
        self._is_open = False

    # -- port -----------------------------------------------------------------------

    @property
    def period_ns(self) -> int | None:
        return self._period_ns

    @property
    def waiting_for(self) -> str:
        """Return the pending operation of the camera; empty if there is none."""
        return "sending a trigger" if self._trigger_sender.is_sending else ""

    def open(self) -> None:
        device, options = self._device, self._options
        self._lost_error = None
        try:
            device.connect()
            apply_features(device, list_features(options))
            self._read_stream_format()
            device.start()
        except BaseException:
            device.close()
            raise
        self._is_open = True
        if options.is_software_triggered:
            self._trigger_sender.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        now_ns = self._clock.now_ns()
        until_ns = now_ns + timeout_ns
        if now_ns >= self._refresh_at_ns:
            self._refresh_counts()
        while True:
            if self._ready_grabs:
                return self._ready_grabs.popleft()
            if self._lost_error is not None:
                raise self._lost_error
            try:
                self._trigger_sender.raise_error()
                buffer = self._device.fetch_buffer(self._wait_ns(until_ns))
            except CameraLostError as error:
                self._mark_camera_lost(error)
                continue
            if buffer is not None:
                self._process_buffer(buffer)
            self._expire_triggers()
            if buffer is None and not self._ready_grabs and self._clock.now_ns() >= until_ns:
                return None

    def release(self, grab: Grab) -> None:
        """Requeue the buffer of a view, or keep a converted array for reuse."""
        if grab.pixels is None:
            return
        token = self._leased.pop(id(grab.pixels), None)
        if token is not None:
            self._device.requeue_buffer(token)
        elif not self._converter.is_view and len(self._pool) < _POOL_MAX:
            self._pool.append(grab.pixels)

    def trigger(self, part: Part) -> None:
        if not self._options.is_software_triggered:
            raise UsageError(
                "this camera is not triggered by software",
                where=self._device.where,
                remedy="Set its `TriggerMode: On` and `TriggerSource: Software`",
            )
        with self._control_lock:
            if not self._is_open or self._lost_error is not None:
                raise CameraLostError("is lost and accepts no trigger", where=self._device.where)
            self._trigger_sender.send(part)

    def close(self) -> None:
        with self._control_lock:
            was_open, self._is_open = self._is_open, False
        if not was_open:
            return
        self._trigger_sender.stop()
        self._triggers.cancel_all()
        self._ready_grabs.clear()
        self._leased.clear()
        self._refresh_counts()
        self._past_statistics = self._past_statistics + self._statistics
        self._statistics = StreamStatistics()
        self._device.close()

    @property
    def counts(self) -> CameraCounts:
        """Return the counts since construction; those of the library are at most a second old."""
        stream = self._past_statistics + self._statistics
        return replace(self._counts, resends=stream.resends, underruns=stream.underruns)

    def _refresh_counts(self) -> None:
        self._statistics = self._device.stream_statistics()
        self._refresh_at_ns = self._clock.now_ns() + NS_PER_S

    def read_temperature(self) -> float | None:
        """Return the camera's temperature in °C; None if unknown. Takes about a millisecond."""
        if not self._is_open or self._temperature_feature is None:
            return None
        value = self._device.read(self._temperature_feature)
        celsius = float(value) if isinstance(value, int | float) else None
        self._counts = replace(self._counts, temperature_c=celsius)
        return celsius

    # -- opening --------------------------------------------------------------------

    def _read_stream_format(self) -> None:
        """Read the pixel format, size, clock source and rate back from the camera."""
        device, options = self._device, self._options
        pixel_format = find_format(str(device.read("PixelFormat") or ""), device.where)
        height_px, width_px = int(device.read("Height") or 0), int(device.read("Width") or 0)
        self._converter = PixelConverter(
            pixel_format, height_px, width_px, options.color, options.levels, device.where
        )
        self._pool.clear()
        self._frame_ids = WrappingCounter(device.frame_id_max)
        self._gaps.reset()
        self._clock_sync = ClockSynchronizer()
        self._clock_source = ClockSource.CAMERA
        ptp = find_feature(device, "PtpStatus")
        if ptp is not None and str(ptp[1]) == "Slave":
            self._clock_source = ClockSource.PTP
        temperature = find_feature(device, "DeviceTemperature")
        self._temperature_feature = temperature[0] if temperature else None
        rate = find_feature(device, "AcquisitionFrameRate")
        rate_hz = float(rate[1]) if rate else (options.frame_rate or 0.0)
        self._period_ns = (
            round(NS_PER_S / rate_hz) if rate_hz and not options.is_triggered else None
        )

    # -- frames ---------------------------------------------------------------------

    def _wait_ns(self, until_ns: int) -> int:
        now_ns = self._clock.now_ns()
        wait_ns = max(0, until_ns - now_ns)
        due_ns = self._triggers.due_in_ns(now_ns)
        return wait_ns if due_ns is None else min(wait_ns, due_ns)

    def _process_buffer(self, buffer: DeviceBuffer) -> None:
        """Convert one buffer, and the losses that it reveals, to grabs."""
        if self._device.frame_id_max and not buffer.frame_id:
            # Its first packet is missing. The gap in the frame counter, or the time-out of its
            # trigger, will report the loss.
            self._discard(buffer)
            return
        frame_id = self._frame_ids.unwrap(buffer.frame_id)
        if self._gaps.is_repeated(frame_id):
            # Aravis delivers some frames a second time when one of their packets is late.
            self._discard(buffer)
            return
        missing_ids = self._gaps.missing_ids(frame_id)
        at_ns, source = self._captured_at(buffer)
        part = NO_PART
        if self._options.is_software_triggered:
            match = self._triggers.match(frame_id, at_ns, source is not ClockSource.HOST)
            self._queue_lost(match.lost)
            if match.part is None:
                self._discard(buffer)
                return
            part = match.part
            if self._is_late(match, buffer, at_ns, source):
                self._discard(buffer)
                self._queue_lost((LostFrame(part, frame_id, at_ns, TRIGGER_EXPIRED),))
                return
        elif missing_ids:
            lost = (LostFrame(NO_PART, each, at_ns, FRAME_NOT_RECEIVED) for each in missing_ids)
            self._queue_lost(lost)
        self._ready_grabs.append(self._make_grab(buffer, frame_id, at_ns, source, part))

    def _is_late(
        self, match: TriggerMatch, buffer: DeviceBuffer, at_ns: int, source: ClockSource
    ) -> bool:
        """Return True unless the frame is known to be exposed before its part expired."""
        assert match.part is not None
        if match.is_sent or not match.part.is_expired(buffer.arrived_at_ns):
            return False
        return source is ClockSource.HOST or match.part.is_expired(at_ns)

    def _captured_at(self, buffer: DeviceBuffer) -> tuple[int, ClockSource]:
        if buffer.device_ns is None or self._options.clock == "host":
            return buffer.arrived_at_ns, ClockSource.HOST
        at_ns = self._clock_sync.map_timestamp(buffer.device_ns, buffer.arrived_at_ns)
        return at_ns, self._clock_source

    def _make_grab(
        self, buffer: DeviceBuffer, frame_id: int, at_ns: int, source: ClockSource, part: Part
    ) -> Grab:
        converter, counts = self._converter, self._counts
        problem = buffer.problem
        if buffer.data is not None and (
            (buffer.height_px, buffer.width_px) != converter.shape[:2]
            or buffer.pixel_format != converter.pixel_format.name
        ):
            sent = f"{buffer.height_px}x{buffer.width_px} {buffer.pixel_format}"
            problem = f"the camera sent {sent}: its settings were changed by another program"
        if buffer.data is None or problem:
            self._device.requeue_buffer(buffer.token)
            self._counts = replace(counts, incomplete=counts.incomplete + 1)
            return Grab(None, frame_id, at_ns, part, source, problem=problem, lost=True)
        copied_bytes = 0
        if converter.is_view:
            pixels = converter.view(buffer.data)
            self._leased[id(pixels)] = buffer.token
        else:
            pixels = self._pool.pop() if self._pool else np.empty(converter.shape, np.uint8)
            converter.convert(buffer.data, pixels)
            self._device.requeue_buffer(buffer.token)
            copied_bytes = pixels.nbytes
        self._counts = replace(
            counts, frames=counts.frames + 1, copied_bytes=counts.copied_bytes + copied_bytes
        )
        return Grab(pixels, frame_id, at_ns, part, source)

    # -- losses ---------------------------------------------------------------------

    def _discard(self, buffer: DeviceBuffer) -> None:
        """Requeue a frame that already has its verdict."""
        self._device.requeue_buffer(buffer.token)
        self._counts = replace(self._counts, late=self._counts.late + 1)

    def _queue_lost(self, lost: Iterable[LostFrame]) -> None:
        for frame in lost:
            self._counts = replace(self._counts, missing=self._counts.missing + 1)
            self._ready_grabs.append(_to_grab(frame))

    def _queue_unanswered(self, lost: LostFrame) -> None:
        self._counts = replace(self._counts, unanswered=self._counts.unanswered + 1)
        self._ready_grabs.append(_to_grab(lost))

    def _expire_triggers(self) -> None:
        """Report triggers without a frame in time; after a few in a row the camera is lost."""
        while (lost := self._triggers.pop_cancelled()) is not None:
            self._queue_lost((lost,))
        while (lost := self._triggers.pop_overdue(self._clock.now_ns())) is not None:
            self._queue_unanswered(lost)
        if self._triggers.unanswered_in_a_row >= UNANSWERED_TRIGGERS_MAX:
            self._mark_camera_lost(
                CameraLostError(
                    f"no frame for {self._triggers.unanswered_in_a_row} triggers in a row",
                    where=self._device.where,
                    remedy="Check its cable, power and settings",
                )
            )

    def _mark_camera_lost(self, error: CameraLostError) -> None:
        """Report all triggers as lost; `grab` raises the error after them."""
        with self._control_lock:
            self._lost_error = error
        for lost in self._triggers.cancel_all():
            self._queue_unanswered(lost)


def _to_grab(lost: LostFrame) -> Grab:
    return Grab(None, lost.frame_id, lost.at_ns, lost.part, problem=lost.problem, lost=True)
