"""Basler cameras through the maker's library, pypylon.

A frame's pixels are a view of pylon's buffer, until `release`. `PYLON_CAMEMU=1` in the
environment adds an emulated camera, for trials without hardware.
"""

from __future__ import annotations

import threading
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from edgeinspect.cameras._genicam.camera import GenicamCamera
from edgeinspect.cameras._genicam.device import (
    DeviceBuffer,
    FeatureValue,
    StreamStatistics,
    close_with_timeout,
)
from edgeinspect.cameras._genicam.line_scan import wrap_line_scan
from edgeinspect.cameras._genicam.options import GenicamOptions
from edgeinspect.cameras._genicam.pixel_format import FORMATS_BY_CODE
from edgeinspect.domain import NS_PER_MS, Clock
from edgeinspect.errors import CameraLostError, MissingExtraError
from edgeinspect.ports import Camera

REQUIRES = (("pypylon", "pylon"),)


class Options(GenicamOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: pylon`."""

    serial_number: str | None = None
    """Serial number of the camera; absent: the first one found."""
    buffers: Annotated[int, Meta(ge=2, le=1024)] = 16
    """Number of frame buffers, allocated at start."""


class PylonDevice:
    """One camera behind pypylon. For threads see `_genicam.device.GenicamDevice`."""

    def __init__(self, options: Options, clock: Clock) -> None:
        from pypylon import genicam, pylon

        self._pylon = pylon
        self._genicam = genicam
        self._options = options
        self._clock = clock
        self._camera: Any = None
        self._nodes: Any = None
        self._control_lock = threading.Lock()

    @property
    def where(self) -> str:
        return self._options.serial_number or "the first Basler camera"

    @property
    def frame_id_max(self) -> int:
        return 0  # pylon unwraps 16-bit block ids

    def connect(self) -> None:
        pylon = self._pylon
        device_info = pylon.DeviceInfo()
        if self._options.serial_number is not None:
            device_info.SetSerialNumber(self._options.serial_number)
        try:
            device = pylon.TlFactory.GetInstance().CreateFirstDevice(device_info)
            self._camera = pylon.InstantCamera(device)
            self._camera.Open()
            self._nodes = self._camera.GetNodeMap()
        except self._genicam.GenericException as error:
            raise CameraLostError(f"cannot be opened: {error}", where=self.where) from error

    def read(self, feature: str) -> FeatureValue | None:
        with self._control_lock:
            node = self._node(feature)
            try:
                if node is None or not self._genicam.IsReadable(node):
                    return None
                value = node.GetValue()
            except (self._genicam.GenericException, AttributeError):
                return None
        return value if isinstance(value, bool | int | float | str) else None

    def write(self, feature: str, value: FeatureValue) -> None:
        with self._control_lock:
            node = self._node(feature)
            try:
                now = node.GetValue()
                node.SetValue(str(value) if isinstance(now, str) else type(now)(value))
            except self._genicam.GenericException as error:
                raise ValueError(str(error)) from error

    def execute(self, command: str) -> None:
        with self._control_lock:
            node, camera = self._node(command), self._camera
            try:
                if camera.CanWaitForFrameTriggerReady():  # earlier triggers are ignored
                    camera.WaitForFrameTriggerReady(100, self._pylon.TimeoutHandling_Return)
                node.Execute()
            except (self._genicam.GenericException, AttributeError) as error:
                problem = f"{command} is refused: {error}"
                raise CameraLostError(problem, where=self.where) from error

    def start(self) -> None:
        try:
            self._camera.MaxNumBuffer.Value = self._options.buffers
            self._camera.StartGrabbing(self._pylon.GrabStrategy_OneByOne)
        except self._genicam.GenericException as error:
            raise CameraLostError(f"does not start: {error}", where=self.where) from error

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        pylon, camera = self._pylon, self._camera
        try:
            if camera.IsCameraDeviceRemoved():
                raise CameraLostError("was unplugged", where=self.where)
            result = camera.RetrieveResult(
                max(1, timeout_ns // NS_PER_MS), pylon.TimeoutHandling_Return
            )
            if not result.IsValid():
                return None
            return self._to_device_buffer(result)
        except self._genicam.GenericException as error:
            raise CameraLostError(f"does not deliver: {error}", where=self.where) from error

    def requeue_buffer(self, token: object) -> None:
        token.Release()  # type: ignore[attr-defined]

    def stream_statistics(self) -> StreamStatistics:
        return StreamStatistics()

    def close(self) -> None:
        with self._control_lock:
            camera, self._camera, self._nodes = self._camera, None, None
        if camera is not None:
            close_with_timeout(self._genicam.GenericException, camera.StopGrabbing, camera.Close)

    def _node(self, feature: str) -> Any:
        if self._nodes is None:
            raise CameraLostError("is not open", where=self.where)
        try:
            return self._nodes.GetNode(feature)
        except self._genicam.GenericException:
            return None

    def _to_device_buffer(self, result: Any) -> DeviceBuffer:
        now_ns = self._clock.now_ns()
        frame_id = int(result.GetBlockID())
        if not result.GrabSucceeded():
            problem = f"incomplete: {result.GetErrorDescription()}"
            return DeviceBuffer(result, frame_id, now_ns, problem=problem)
        pixel_format = FORMATS_BY_CODE.get(int(result.GetPixelType()) & 0xFFFFFFFF)
        view = result.GetMemoryView() if hasattr(result, "GetMemoryView") else result.GetBuffer()
        return DeviceBuffer(
            token=result,
            frame_id=frame_id,
            arrived_at_ns=now_ns,
            device_ns=int(result.GetTimeStamp()) or None,
            data=np.frombuffer(view, np.uint8),
            height_px=int(result.GetHeight()),
            width_px=int(result.GetWidth()),
            pixel_format=pixel_format.name if pixel_format else "",
        )


def build(options: Options, clock: Clock) -> Camera:
    """Return a Basler camera, not yet opened.

    Raises:
        MissingExtraError: pypylon is not installed.
    """
    try:
        device = PylonDevice(options, clock)
    except ImportError as error:
        raise MissingExtraError("pylon", "pypylon", where="type: pylon") from error
    return wrap_line_scan(GenicamCamera(device, options, clock), options.rows)
