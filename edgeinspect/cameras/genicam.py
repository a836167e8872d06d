"""Any camera with a GenTL producer (the maker's `.cti` file), through harvesters.

A frame's pixels are a view of the producer's buffer, until `release`. The producer is the maker's
code in this process: when it reports a loss, and whether unplugging blocks it, depends on the
maker. The line's silence monitor checks the age of frames in any case.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
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
from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import CameraLostError, DataError, MissingExtraError, MissingLibraryError
from edgeinspect.ports import Camera

REQUIRES = (("harvesters", "genicam"),)


class Options(GenicamOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: genicam`."""

    producer: str
    """Path of the maker's GenTL producer, a `.cti` file."""
    serial_number: str | None = None
    """Serial number of the camera; absent: the only one that the producer finds."""
    buffers: Annotated[int, Meta(ge=2, le=1024)] = 16
    """Number of frame buffers, allocated at start."""


_producers: dict[str, Any] = {}
_producers_lock = threading.Lock()


def _load_harvester(producer: str) -> Any:
    """Return the Harvester of a producer, which can be loaded only once per process."""
    from harvesters.core import Harvester

    with _producers_lock:
        if producer not in _producers:
            if not Path(producer).is_file():
                raise DataError(
                    "does not exist", where=producer, remedy="Configure the maker's .cti file"
                )
            harvester = Harvester()
            harvester.add_file(producer)
            _producers[producer] = harvester
        harvester = _producers[producer]
        harvester.update()
        return harvester


class HarvestersDevice:
    """One camera behind harvesters. For threads see `_genicam.device.GenicamDevice`."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._acquirer: Any = None
        self._nodes: Any = None
        self._control_lock = threading.Lock()

    @property
    def where(self) -> str:
        return self._options.serial_number or Path(self._options.producer).name

    @property
    def frame_id_max(self) -> int:
        return 0

    def connect(self) -> None:
        from genicam import genapi, gentl

        self._errors = (genapi.GenericException, gentl.GenericException)
        self._access_modes = genapi.EAccessMode
        try:
            harvester = _load_harvester(self._options.producer)
            serial = self._options.serial_number
            available = [info.serial_number for info in harvester.device_info_list]
            if (serial is not None and serial not in available) or not available:
                raise CameraLostError(
                    "is not found",
                    where=self.where,
                    remedy=f"The producer finds: {', '.join(available) or 'none'}",
                )
            if serial is None and len(available) > 1:
                raise DataError(
                    "finds more than one camera",
                    where=self.where,
                    remedy=f"Set serial_number to one of {', '.join(available)}",
                )
            index = available.index(serial) if serial is not None else 0
            self._acquirer = harvester.create(index)
            self._nodes = self._acquirer.remote_device.node_map
        except self._errors as error:
            raise CameraLostError(f"cannot be opened: {error}", where=self.where) from error

    def read(self, feature: str) -> FeatureValue | None:
        with self._control_lock:
            node = self._node(feature)
            try:
                if node is None or node.get_access_mode() not in (
                    self._access_modes.RO,
                    self._access_modes.RW,
                ):
                    return None
                value = node.value
            except self._errors:
                return None
        return value if isinstance(value, bool | int | float | str) else None

    def write(self, feature: str, value: FeatureValue) -> None:
        with self._control_lock:
            node = self._node(feature)
            try:
                if isinstance(node.value, str):
                    node.value = str(value)
                else:
                    node.value = type(node.value)(value)
            except self._errors as error:
                raise ValueError(str(error)) from error

    def execute(self, command: str) -> None:
        with self._control_lock:
            node = self._node(command)
            try:
                node.execute()
            except (*self._errors, AttributeError) as error:
                problem = f"{command} is refused: {error}"
                raise CameraLostError(problem, where=self.where) from error

    def start(self) -> None:
        try:
            self._acquirer.num_buffers = self._options.buffers
            self._acquirer.start()
        except self._errors as error:
            raise CameraLostError(f"does not start: {error}", where=self.where) from error

    def fetch_buffer(self, timeout_ns: int) -> DeviceBuffer | None:
        try:
            buffer = self._acquirer.try_fetch(timeout=max(timeout_ns, 1_000) / NS_PER_S)
            if buffer is None:
                return None
            return self._to_device_buffer(buffer)
        except self._errors as error:
            raise CameraLostError(f"does not deliver: {error}", where=self.where) from error

    def requeue_buffer(self, token: object) -> None:
        assert isinstance(token, tuple)
        if token[0] is self._acquirer:
            token[1].queue()

    def stream_statistics(self) -> StreamStatistics:
        return StreamStatistics()

    def close(self) -> None:
        with self._control_lock:
            acquirer, self._acquirer, self._nodes = self._acquirer, None, None
        if acquirer is not None:
            close_with_timeout(self._errors, acquirer.stop, acquirer.destroy)

    def _node(self, feature: str) -> Any:
        if self._nodes is None:
            raise CameraLostError("is not open", where=self.where)
        return self._nodes.get_node(feature) if self._nodes.has_node(feature) else None

    def _to_device_buffer(self, buffer: Any) -> DeviceBuffer:
        module = buffer.module
        now_ns = self._clock.now_ns()
        token = (self._acquirer, buffer)
        frame_id = int(module.frame_id)
        images = [each for each in buffer.payload.components if each.data is not None]
        if not module.is_complete() or not images:
            return DeviceBuffer(token, frame_id, now_ns, problem="incomplete: missing data")
        image = images[0]
        data = image.data
        return DeviceBuffer(
            token=token,
            frame_id=frame_id,
            arrived_at_ns=now_ns,
            device_ns=self._read_timestamp_ns(module),
            data=data.view(np.uint8).reshape(-1),
            height_px=image.height,
            width_px=image.width,
            pixel_format=image.data_format,
        )

    def _read_timestamp_ns(self, module: Any) -> int | None:
        try:
            return int(module.timestamp_ns)
        except self._errors:  # not supported by this producer
            return None


def build(options: Options, clock: Clock) -> Camera:
    """Return a GenTL camera, not yet opened.

    Raises:
        MissingExtraError: harvesters is not installed.
        MissingLibraryError: It is, and Python's shared library is not, which its wheels need.
    """
    try:
        import harvesters.core  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("genicam", "harvesters", where="type: genicam") from error
    except ImportError as error:
        python = "libpython{}.{}".format(*sys.version_info)
        if python not in str(error):
            raise
        raise MissingLibraryError(
            f"{python}.so.1.0", f"apt-get install {python}", where="type: genicam"
        ) from error
    return wrap_line_scan(
        GenicamCamera(HarvestersDevice(options, clock), options, clock), options.rows
    )
