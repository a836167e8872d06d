"""A camera over any `Device`: settings, pixels, triggers, clocks and losses, once for all."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from msgspec.structs import replace

from edgeinspect.cameras._genicam.clock_sync import ClockSynchronizer
from edgeinspect.cameras._genicam.device import Device, DeviceBuffer, StreamStatistics
from edgeinspect.cameras._genicam.features import apply_features, find_feature
from edgeinspect.cameras._genicam.frame_counter import WrappingCounter
from edgeinspect.cameras._genicam.options import GenicamOptions, list_features
from edgeinspect.cameras._genicam.pixel_format import PixelConverter, find_format
from edgeinspect.cameras._genicam.trigger_matching import LostFrame, TriggerMatcher
from edgeinspect.cameras._genicam.trigger_sender import TriggerSender
from edgeinspect.domain import (
    NO_PART,
    NS_PER_MS,
    NS_PER_S,
    TRIGGER_EXPIRED,
    CameraCounts,
    Clock,
    ClockSource,
    Grab,
    Part,
    Pixels,
)
from edgeinspect.errors import CameraLostError, UsageError

UNANSWERED_TRIGGERS_MAX = 3
"""So many triggers in a row without a frame, and the camera is taken for lost."""


FRAME_GAP_MAX = 1000
"""Most frames that one step of the camera's count is taken for."""


class GenicamCamera:
    """One GenICam camera. See `ports.Camera` for threads; `counts` may be read from any."""

    tells_losses = True
    """Each frame or trigger that was lost is a grab of its own, marked `lost`."""

    def __init__(self, device: Device, options: GenicamOptions, clock: Clock) -> None:
        self._device = device
        self._options = options
        self._clock = clock
        self._book = TriggerMatcher(round(options.trigger_timeout_ms * NS_PER_MS))
        self._sender = TriggerSender(device, self._book, clock)
        self._ready_grabs: deque[Grab] = deque()
        self._leased: dict[int, object] = {}
        self._pool: list[Pixels] = []
        self._counts = CameraCounts()
        self._past_statistics = self._statistics = StreamStatistics()
        self._refresh_at_ns = 0
        self._period_ns: int | None = None
        self._last_id: int | None = None
        self._lost_error: CameraLostError | None = None
        self._temperature_feature: str | None = None
        self._control_lock = threading.Lock()
        self._is_open = False

    # -- port -----------------------------------------------------------------------

    @property
    def period_ns(self) -> int | None:
        return self._period_ns

    @property
    def waits_for(self) -> str:
        """A trigger that the camera does not take, in words; empty if there is none."""
        return "sending a trigger" if self._sender.is_sending else ""

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
            self._sender.start()

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
                self._sender.raise_error()
                delivery = self._device.fetch_buffer(self._wait_ns(until_ns))
            except CameraLostError as error:
                self._mark_camera_lost(error)
                continue
            if delivery is not None:
                self._process_buffer(delivery)
            self._expire_triggers()
            if delivery is None and not self._ready_grabs and self._clock.now_ns() >= until_ns:
                return None

    def release(self, grab: Grab) -> None:
        """Lend a view's buffer to the camera again, or keep a converted one for the next."""
        if grab.pixels is None:
            return
        token = self._leased.pop(id(grab.pixels), None)
        if token is not None:
            self._device.requeue_buffer(token)
        elif not self._converter.is_view and len(self._pool) < 16:
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
                raise CameraLostError("is away and takes no trigger", where=self._device.where)
            self._sender.send(part)

    def close(self) -> None:
        with self._control_lock:
            was_open, self._is_open = self._is_open, False
        if not was_open:
            return
        self._sender.stop()
        self._book.cancel_all()
        self._ready_grabs.clear()
        self._leased.clear()
        self._refresh_counts()
        self._past_statistics = self._past_statistics + self._statistics
        self._statistics = StreamStatistics()
        self._device.close()

    @property
    def counts(self) -> CameraCounts:
        """What it counted since it was built; the library's part at most a second old."""
        stream = self._past_statistics + self._statistics
        return replace(self._counts, resends=stream.resends, underruns=stream.underruns)

    def _refresh_counts(self) -> None:
        self._statistics = self._device.stream_statistics()
        self._refresh_at_ns = self._clock.now_ns() + NS_PER_S

    def read_temperature(self) -> float | None:
        """Ask the camera for its temperature, which may take a millisecond; None if unknown."""
        if not self._is_open or self._temperature_feature is None:
            return None
        value = self._device.read(self._temperature_feature)
        celsius = float(value) if isinstance(value, int | float) else None
        self._counts = replace(self._counts, temperature_c=celsius)
        return celsius

    # -- opening --------------------------------------------------------------------

    def _read_stream_format(self) -> None:
        """Learn from the camera itself what it will send."""
        device, options = self._device, self._options
        form = find_format(str(device.read("PixelFormat") or ""), device.where)
        height_px, width_px = int(device.read("Height") or 0), int(device.read("Width") or 0)
        self._converter = PixelConverter(
            form, height_px, width_px, options.color, options.levels, device.where
        )
        self._pool.clear()
        self._frame_ids = WrappingCounter(device.frame_id_max)
        self._last_id = None
        self._clock_sync = ClockSynchronizer()
        self._clock_source = ClockSource.CAMERA
        ptp = find_feature(device, "PtpStatus")
        if ptp is not None and str(ptp[1]) == "Slave":
            self._clock_source = ClockSource.PTP
        found = find_feature(device, "DeviceTemperature")
        self._temperature_feature = found[0] if found else None
        rate = find_feature(device, "AcquisitionFrameRate")
        rate_hz = float(rate[1]) if rate else (options.frame_rate or 0.0)
        self._period_ns = (
            round(NS_PER_S / rate_hz) if rate_hz and not options.is_triggered else None
        )

    # -- frames ---------------------------------------------------------------------

    def _wait_ns(self, until_ns: int) -> int:
        now_ns = self._clock.now_ns()
        wait_ns = max(0, until_ns - now_ns)
        due_ns = self._book.due_in_ns(now_ns)
        return wait_ns if due_ns is None else min(wait_ns, due_ns)

    def _process_buffer(self, buffer: DeviceBuffer) -> None:
        """Turn one buffer, and the losses it shows, into grabs."""
        if self._device.frame_id_max and not buffer.frame_id:
            # No frame has this number: its first packet never came. The gap that it leaves
            # in the count, or its trigger's time-out, will account for it.
            self._discard(buffer)
            return
        frame_id = self._frame_ids.unwrap(buffer.frame_id)
        last, self._last_id = self._last_id, frame_id
        if last is not None and last - FRAME_GAP_MAX < frame_id <= last:
            # Aravis delivers some frames a second time, when a packet of theirs is late.
            self._last_id = last
            self._discard(buffer)
            return
        at_ns, source = self._captured_at(buffer)
        part = NO_PART
        if self._options.is_software_triggered:
            match = self._book.match(frame_id, at_ns, source is not ClockSource.HOST)
            self._queue_lost(match.lost)
            if match.part is None:
                self._discard(buffer)
                return
            part = match.part
            if self._is_late(part, buffer, at_ns, source):
                self._discard(buffer)
                self._queue_lost((LostFrame(part, frame_id, at_ns, TRIGGER_EXPIRED),))
                return
        else:
            self._queue_lost(_missing_frames(last, frame_id, at_ns))
        self._ready_grabs.append(self._make_grab(buffer, frame_id, at_ns, source, part))

    def _is_late(self, part: Part, buffer: DeviceBuffer, at_ns: int, source: ClockSource) -> bool:
        """True if it cannot be shown that it was exposed before its trigger expired."""
        in_time = self._book.pop_sent(part) or not part.is_expired(buffer.arrived_at_ns)
        if in_time or (source is not ClockSource.HOST and not part.is_expired(at_ns)):
            return False
        return part.expires_at_ns is not None

    def _captured_at(self, buffer: DeviceBuffer) -> tuple[int, ClockSource]:
        if buffer.device_ns is None or self._options.clock == "host":
            return buffer.arrived_at_ns, ClockSource.HOST
        return self._clock_sync.map_timestamp(
            buffer.device_ns, buffer.arrived_at_ns
        ), self._clock_source

    def _make_grab(
        self, buffer: DeviceBuffer, frame_id: int, at_ns: int, source: ClockSource, part: Part
    ) -> Grab:
        reader, counts = self._converter, self._counts
        problem = buffer.problem
        if buffer.data is not None and (
            (buffer.height_px, buffer.width_px) != reader.shape[:2]
            or buffer.pixel_format != reader.pixel_format.name
        ):
            sent = f"{buffer.height_px}x{buffer.width_px} {buffer.pixel_format}"
            problem = f"the camera sent {sent}: somebody changed its settings"
        if buffer.data is None or problem:
            self._device.requeue_buffer(buffer.token)
            self._counts = replace(counts, incomplete=counts.incomplete + 1)
            return Grab(None, frame_id, at_ns, part, source, problem=problem, lost=True)
        copied = 0
        if reader.is_view:
            pixels = reader.view(buffer.data)
            self._leased[id(pixels)] = buffer.token
        else:
            pixels = self._pool.pop() if self._pool else np.empty(reader.shape, np.uint8)
            reader.convert(buffer.data, pixels)
            self._device.requeue_buffer(buffer.token)
            copied = pixels.nbytes
        self._counts = replace(
            counts, frames=counts.frames + 1, copied_bytes=counts.copied_bytes + copied
        )
        return Grab(pixels, frame_id, at_ns, part, source)

    # -- losses ---------------------------------------------------------------------

    def _discard(self, buffer: DeviceBuffer) -> None:
        """A frame whose verdict has been given, as lost or as itself."""
        self._device.requeue_buffer(buffer.token)
        self._counts = replace(self._counts, late=self._counts.late + 1)

    def _queue_lost(self, lost: tuple[LostFrame, ...]) -> None:
        for one in lost:
            self._counts = replace(self._counts, missing=self._counts.missing + 1)
            self._ready_grabs.append(_to_grab(one))

    def _expire_triggers(self) -> None:
        """Triggers without a frame in time; after a few in a row the camera is gone."""
        while (one := self._book.pop_cancelled()) is not None:
            self._queue_lost((one,))
        while (one := self._book.pop_overdue(self._clock.now_ns())) is not None:
            self._counts = replace(self._counts, unanswered=self._counts.unanswered + 1)
            self._ready_grabs.append(_to_grab(one))
        if self._book.unanswered_in_a_row >= UNANSWERED_TRIGGERS_MAX:
            self._mark_camera_lost(
                CameraLostError(
                    f"no frame for {self._book.unanswered_in_a_row} triggers in a row",
                    where=self._device.where,
                    remedy="Check its cable, power and settings",
                )
            )

    def _mark_camera_lost(self, error: CameraLostError) -> None:
        """The camera is gone: what was triggered is lost, then the loss itself is said."""
        with self._control_lock:
            self._lost_error = error
        for one in self._book.cancel_all():
            self._counts = replace(self._counts, unanswered=self._counts.unanswered + 1)
            self._ready_grabs.append(_to_grab(one))


def _missing_frames(last: int | None, frame_id: int, at_ns: int) -> tuple[LostFrame, ...]:
    """The frames between the last and this one; a larger step is a new count."""
    if last is None or not 1 < frame_id - last <= FRAME_GAP_MAX:
        return ()
    problem = "the camera counted it, and it never came"
    return tuple(LostFrame(NO_PART, gone, at_ns, problem) for gone in range(last + 1, frame_id))


def _to_grab(lost: LostFrame) -> Grab:
    return Grab(None, lost.frame_id, lost.at_ns, lost.part, problem=lost.problem, lost=True)
