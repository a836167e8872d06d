"""A camera over any `Device`: settings, pixels, triggers, clocks and losses, once for all."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from msgspec.structs import replace

from edgeinspect.cameras._genicam.clock_sync import ClockFit
from edgeinspect.cameras._genicam.device import Delivery, Device, StreamCounts
from edgeinspect.cameras._genicam.features import apply, find
from edgeinspect.cameras._genicam.frame_counter import FrameCount
from edgeinspect.cameras._genicam.options import GenicamOptions, feature_list
from edgeinspect.cameras._genicam.pixel_format import Reader, find_format
from edgeinspect.cameras._genicam.trigger_matching import Lost, TriggerBook
from edgeinspect.cameras._genicam.trigger_sender import TriggerSender
from edgeinspect.domain.camera import CameraCounts
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.domain.frame import NO_PART, TOO_LATE, ClockSource, Grab, Part, Pixels
from edgeinspect.errors import CameraLostError, UsageError

UNANSWERED_MAX = 3
"""So many triggers in a row without a frame, and the camera is taken for lost."""


GAP_MAX = 1000
"""Most frames that one step of the camera's count is taken for."""


class DeviceCamera:
    """One GenICam camera. See `ports.Camera` for threads; `counts` may be read from any."""

    tells_losses = True
    """Each frame or trigger that was lost is a grab of its own, marked `lost`."""

    def __init__(self, device: Device, options: GenicamOptions, clock: Clock) -> None:
        self._device = device
        self._options = options
        self._clock = clock
        self._book = TriggerBook(round(options.trigger_timeout_ms * NS_PER_MS))
        self._sender = TriggerSender(device, self._book, clock)
        self._ready: deque[Grab] = deque()
        self._lent: dict[int, object] = {}
        self._spare: list[Pixels] = []
        self._counts = CameraCounts()
        self._stream_before = self._stream_now = StreamCounts()
        self._refresh_at_ns = 0
        self._period_ns: int | None = None
        self._last_id: int | None = None
        self._pinned: CameraLostError | None = None
        self._temperature: str | None = None
        self._control = threading.Lock()
        self._open = False

    # -- port -----------------------------------------------------------------------

    @property
    def period_ns(self) -> int | None:
        return self._period_ns

    @property
    def waits_for(self) -> str:
        """A trigger that the camera does not take, in words; empty if there is none."""
        return "sending a trigger" if self._sender.sending else ""

    def open(self) -> None:
        device, options = self._device, self._options
        self._pinned = None
        try:
            device.connect()
            apply(device, feature_list(options))
            self._read_back()
            device.start()
        except BaseException:
            device.close()
            raise
        self._open = True
        if options.software_triggered:
            self._sender.start()

    def grab(self, timeout_ns: int) -> Grab | None:
        now_ns = self._clock.now_ns()
        until_ns = now_ns + timeout_ns
        if now_ns >= self._refresh_at_ns:
            self._refresh_counts()
        while True:
            if self._ready:
                return self._ready.popleft()
            if self._pinned is not None:
                raise self._pinned
            try:
                self._sender.check()
                delivery = self._device.take(self._wait_ns(until_ns))
            except CameraLostError as error:
                self._abandon(error)
                continue
            if delivery is not None:
                self._receive(delivery)
            self._give_up_overdue()
            if delivery is None and not self._ready and self._clock.now_ns() >= until_ns:
                return None

    def release(self, grab: Grab) -> None:
        """Lend a view's buffer to the camera again, or keep a converted one for the next."""
        if grab.pixels is None:
            return
        token = self._lent.pop(id(grab.pixels), None)
        if token is not None:
            self._device.give_back(token)
        elif not self._reader.is_view and len(self._spare) < 16:
            self._spare.append(grab.pixels)

    def trigger(self, part: Part) -> None:
        if not self._options.software_triggered:
            raise UsageError(
                "this camera is not triggered by software",
                where=self._device.where,
                remedy="Set its `TriggerMode: On` and `TriggerSource: Software`",
            )
        with self._control:
            if not self._open or self._pinned is not None:
                raise CameraLostError("is away and takes no trigger", where=self._device.where)
            self._sender.send(part)

    def close(self) -> None:
        with self._control:
            was_open, self._open = self._open, False
        if not was_open:
            return
        self._sender.stop()
        self._book.abandon()
        self._ready.clear()
        self._lent.clear()
        self._refresh_counts()
        self._stream_before = self._stream_before + self._stream_now
        self._stream_now = StreamCounts()
        self._device.close()

    @property
    def counts(self) -> CameraCounts:
        """What it counted since it was built; the library's part at most a second old."""
        stream = self._stream_before + self._stream_now
        return replace(self._counts, resends=stream.resends, underruns=stream.underruns)

    def _refresh_counts(self) -> None:
        self._stream_now = self._device.stream_counts()
        self._refresh_at_ns = self._clock.now_ns() + NS_PER_S

    def read_temperature(self) -> float | None:
        """Ask the camera for its temperature, which may take a millisecond; None if unknown."""
        if not self._open or self._temperature is None:
            return None
        value = self._device.read(self._temperature)
        celsius = float(value) if isinstance(value, int | float) else None
        self._counts = replace(self._counts, temperature_c=celsius)
        return celsius

    # -- opening --------------------------------------------------------------------

    def _read_back(self) -> None:
        """Learn from the camera itself what it will send."""
        device, options = self._device, self._options
        form = find_format(str(device.read("PixelFormat") or ""), device.where)
        height_px, width_px = int(device.read("Height") or 0), int(device.read("Width") or 0)
        self._reader = Reader(
            form, height_px, width_px, options.color, options.levels, device.where
        )
        self._spare.clear()
        self._ids = FrameCount(device.id_wraps_at)
        self._last_id = None
        self._fit = ClockFit()
        self._source = ClockSource.CAMERA
        ptp = find(device, "PtpStatus")
        if ptp is not None and str(ptp[1]) == "Slave":
            self._source = ClockSource.PTP
        found = find(device, "DeviceTemperature")
        self._temperature = found[0] if found else None
        rate = find(device, "AcquisitionFrameRate")
        rate_hz = float(rate[1]) if rate else (options.frame_rate or 0.0)
        self._period_ns = round(NS_PER_S / rate_hz) if rate_hz and not options.triggered else None

    # -- frames ---------------------------------------------------------------------

    def _wait_ns(self, until_ns: int) -> int:
        now_ns = self._clock.now_ns()
        wait_ns = max(0, until_ns - now_ns)
        due_ns = self._book.due_in_ns(now_ns)
        return wait_ns if due_ns is None else min(wait_ns, due_ns)

    def _receive(self, delivery: Delivery) -> None:
        """Turn one buffer, and the losses it shows, into grabs."""
        if self._device.id_wraps_at and not delivery.frame_id:
            # No frame has this number: its first packet never came. The gap that it leaves
            # in the count, or its trigger's time-out, will account for it.
            self._drop(delivery)
            return
        frame_id = self._ids.unwrap(delivery.frame_id)
        last, self._last_id = self._last_id, frame_id
        if last is not None and last - GAP_MAX < frame_id <= last:
            # Aravis delivers some frames a second time, when a packet of theirs is late.
            self._last_id = last
            self._drop(delivery)
            return
        at_ns, source = self._instant(delivery)
        part = NO_PART
        if self._options.software_triggered:
            match = self._book.match(frame_id, at_ns, source is not ClockSource.HOST)
            self._lose(match.lost)
            if match.part is None:
                self._drop(delivery)
                return
            part = match.part
            if self._is_late(part, delivery, at_ns, source):
                self._drop(delivery)
                self._lose((Lost(part, frame_id, at_ns, TOO_LATE),))
                return
        else:
            self._lose(_gap(last, frame_id, at_ns))
        self._ready.append(self._make_grab(delivery, frame_id, at_ns, source, part))

    def _is_late(self, part: Part, delivery: Delivery, at_ns: int, source: ClockSource) -> bool:
        """True if it cannot be shown that it was exposed before its trigger expired."""
        in_time = self._book.was_sent(part) or not part.expired(delivery.arrived_at_ns)
        if in_time or (source is not ClockSource.HOST and not part.expired(at_ns)):
            return False
        return part.expires_at_ns is not None

    def _instant(self, delivery: Delivery) -> tuple[int, ClockSource]:
        if delivery.device_ns is None or self._options.clock == "host":
            return delivery.arrived_at_ns, ClockSource.HOST
        return self._fit.add(delivery.device_ns, delivery.arrived_at_ns), self._source

    def _make_grab(
        self, delivery: Delivery, frame_id: int, at_ns: int, source: ClockSource, part: Part
    ) -> Grab:
        reader, counts = self._reader, self._counts
        problem = delivery.problem
        if delivery.data is not None and (
            (delivery.height_px, delivery.width_px) != reader.dims[:2]
            or delivery.pixel_format != reader.form.name
        ):
            sent = f"{delivery.height_px}x{delivery.width_px} {delivery.pixel_format}"
            problem = f"the camera sent {sent}: somebody changed its settings"
        if delivery.data is None or problem:
            self._device.give_back(delivery.token)
            self._counts = replace(counts, incomplete=counts.incomplete + 1)
            return Grab(None, frame_id, at_ns, part, source, problem=problem, lost=True)
        copied = 0
        if reader.is_view:
            pixels = reader.view(delivery.data)
            self._lent[id(pixels)] = delivery.token
        else:
            pixels = self._spare.pop() if self._spare else np.empty(reader.dims, np.uint8)
            reader.convert(delivery.data, pixels)
            self._device.give_back(delivery.token)
            copied = pixels.nbytes
        self._counts = replace(
            counts, frames=counts.frames + 1, copied_bytes=counts.copied_bytes + copied
        )
        return Grab(pixels, frame_id, at_ns, part, source)

    # -- losses ---------------------------------------------------------------------

    def _drop(self, delivery: Delivery) -> None:
        """A frame whose verdict has been given, as lost or as itself."""
        self._device.give_back(delivery.token)
        self._counts = replace(self._counts, late=self._counts.late + 1)

    def _lose(self, lost: tuple[Lost, ...]) -> None:
        for one in lost:
            self._counts = replace(self._counts, missing=self._counts.missing + 1)
            self._ready.append(_lost_grab(one))

    def _give_up_overdue(self) -> None:
        """Triggers without a frame in time; after a few in a row the camera is gone."""
        while (one := self._book.withdrawn()) is not None:
            self._lose((one,))
        while (one := self._book.overdue(self._clock.now_ns())) is not None:
            self._counts = replace(self._counts, unanswered=self._counts.unanswered + 1)
            self._ready.append(_lost_grab(one))
        if self._book.unanswered_run >= UNANSWERED_MAX:
            self._abandon(
                CameraLostError(
                    f"no frame for {self._book.unanswered_run} triggers in a row",
                    where=self._device.where,
                    remedy="Check its cable, power and settings",
                )
            )

    def _abandon(self, error: CameraLostError) -> None:
        """The camera is gone: what was triggered is lost, then the loss itself is said."""
        with self._control:
            self._pinned = error
        for one in self._book.abandon():
            self._counts = replace(self._counts, unanswered=self._counts.unanswered + 1)
            self._ready.append(_lost_grab(one))


def _gap(last: int | None, frame_id: int, at_ns: int) -> tuple[Lost, ...]:
    """The frames between the last and this one; a larger step is a new count."""
    if last is None or not 1 < frame_id - last <= GAP_MAX:
        return ()
    problem = "the camera counted it, and it never came"
    return tuple(Lost(NO_PART, gone, at_ns, problem) for gone in range(last + 1, frame_id))


def _lost_grab(one: Lost) -> Grab:
    return Grab(None, one.frame_id, one.at_ns, one.part, problem=one.problem, lost=True)
