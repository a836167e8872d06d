"""Options of every GenICam camera, by the names of the SFNC standard."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from edgeinspect.cameras._genicam.device import FeatureValue
from edgeinspect.cameras._genicam.features import FeatureSetting
from edgeinspect.cameras._genicam.line_scan import LineScanOptions
from edgeinspect.cameras._genicam.pixel_format import LevelRange
from edgeinspect.imaging import ColorOrder

PixelOffset = Annotated[int, Meta(ge=0, le=65_535)]
PixelCount = Annotated[int, Meta(ge=1, le=65_535)]


class GenicamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a GenICam camera. Absent features keep the camera's value."""

    pixel_format: str | None = field(default=None, name="PixelFormat")
    """Such as `Mono8`, `Mono12`, `BayerRG8` or `RGB8`."""
    width: PixelCount | None = field(default=None, name="Width")
    """Pixels of a row."""
    height: PixelCount | None = field(default=None, name="Height")
    """Rows of a frame."""
    offset_x: PixelOffset | None = field(default=None, name="OffsetX")
    """First column of the region of interest."""
    offset_y: PixelOffset | None = field(default=None, name="OffsetY")
    """First row of the region of interest."""
    exposure_time: Annotated[float, Meta(gt=0)] | None = field(default=None, name="ExposureTime")
    """In µs."""
    gain: float | None = field(default=None, name="Gain")
    """In the camera's unit, often dB."""
    frame_rate: Annotated[float, Meta(gt=0, le=100_000)] | None = field(
        default=None, name="AcquisitionFrameRate"
    )
    """Frames per second of a free-running camera."""
    trigger_mode: bool | Literal["Off", "On"] = field(default=False, name="TriggerMode")
    """`On`: one frame per trigger. `Off`: free-running. (YAML parses these words as true and
    false; for any feature that is an enumeration they are converted back.)"""
    trigger_source: str | None = field(default=None, name="TriggerSource")
    """`Software` for triggers over ZeroMQ; `Line0` and so on for an input of the camera."""
    features: dict[str, FeatureValue] = {}
    """Other features by name, written in this order before those above."""
    color: ColorOrder | None = None
    """Colour order of the models; absent: grey from a grey camera, BGR from a colour camera."""
    levels: LevelRange | None = None
    """Range of levels that is mapped to 8 bits, for formats of more than 8 bits."""
    trigger_timeout_ms: Annotated[float, Meta(ge=1, le=600_000)] = 200
    """A software trigger without a frame after this time is a NO_VERDICT(capture_lost)."""
    clock: Literal["camera", "host"] = "camera"
    """Source of timestamps; `host` is the time of arrival."""
    rows: LineScanOptions | None = None
    """Line-scan: assemble blocks of rows into frames."""

    @property
    def is_triggered(self) -> bool:
        """Return True if the camera waits for triggers of any kind."""
        return self.trigger_mode in (True, "On")

    @property
    def is_software_triggered(self) -> bool:
        """Return True if `Camera.trigger` triggers a frame."""
        return self.is_triggered and self.trigger_source == "Software"


def list_features(options: GenicamOptions) -> list[FeatureSetting]:
    """Return every configured feature in the order that cameras require.

    Features such as binning come first, as they change the limits of the region of interest.
    The offsets are set to 0 before the size, as a valid size could be refused otherwise.
    """
    out = [FeatureSetting(name, value) for name, value in options.features.items()]

    def add(name: str, value: FeatureValue | None, *preparation: tuple[str, FeatureValue]) -> None:
        if value is not None:
            out.extend(FeatureSetting(*each, is_optional=True) for each in preparation)
            out.append(FeatureSetting(name, value))

    add("PixelFormat", options.pixel_format)
    add("Width", options.width, ("OffsetX", 0))
    add("Height", options.height, ("OffsetY", 0))
    add("OffsetX", options.offset_x)
    add("OffsetY", options.offset_y)
    out.append(FeatureSetting("TriggerSelector", "FrameStart", is_optional=True))
    is_triggered = options.is_triggered
    out.append(FeatureSetting("TriggerMode", is_triggered, is_optional=not is_triggered))
    add("TriggerSource", options.trigger_source)
    add("AcquisitionFrameRate", options.frame_rate, ("AcquisitionFrameRateEnable", True))
    add("ExposureTime", options.exposure_time, ("ExposureAuto", "Off"))
    add("Gain", options.gain, ("GainAuto", "Off"))
    return out
