"""Options that every GenICam camera has, under the standard's own names."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from edgeinspect.cameras._genicam.device import FeatureValue
from edgeinspect.cameras._genicam.features import FeatureSetting
from edgeinspect.cameras._genicam.line_scan import LineScanOptions
from edgeinspect.cameras._genicam.pixel_format import ColorOrder, LevelRange

PixelOffset = Annotated[int, Meta(ge=0, le=65_535)]
PixelCount = Annotated[int, Meta(ge=1, le=65_535)]


class GenicamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a GenICam camera. What is absent stays as the camera has it."""

    pixel_format: str | None = field(default=None, name="PixelFormat")
    """As `Mono8`, `Mono12`, `BayerRG8`, `RGB8`."""
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
    """In the camera's own unit, often dB."""
    frame_rate: Annotated[float, Meta(gt=0, le=100_000)] | None = field(
        default=None, name="AcquisitionFrameRate"
    )
    """Frames a second of a camera that runs free."""
    trigger_mode: bool | Literal["Off", "On"] = field(default=False, name="TriggerMode")
    """`On`: one frame for each trigger; `Off`: the camera runs free. (YAML reads both words as
    true and false; here, and for any feature that is a choice, that means the words.)"""
    trigger_source: str | None = field(default=None, name="TriggerSource")
    """`Software` for triggers over the wire, `Line0` and so on for the camera's own input."""
    features: dict[str, FeatureValue] = {}
    """Any other feature by its name, written in this order before the ones above."""
    color: ColorOrder | None = None
    """What the models take; grey from a grey camera and BGR from a colour one when absent."""
    levels: LevelRange | None = None
    """What becomes black and white, for formats deeper than 8 bits."""
    trigger_timeout_ms: Annotated[float, Meta(ge=1, le=600_000)] = 200
    """A software trigger without a frame for so long is a NO_VERDICT(capture_lost)."""
    clock: Literal["camera", "host"] = "camera"
    """Whose time stamps are used; `host` takes the arrival."""
    rows: LineScanOptions | None = None
    """Line-scan: blocks of rows are put together into frames."""

    @property
    def is_triggered(self) -> bool:
        """True if the camera waits for triggers of any kind."""
        return self.trigger_mode in (True, "On")

    @property
    def is_software_triggered(self) -> bool:
        """True if `Camera.trigger` makes it take a frame."""
        return self.is_triggered and self.trigger_source == "Software"


def list_features(options: GenicamOptions) -> list[FeatureSetting]:
    """Every configured feature in the order that cameras need.

    Binning and the like come first, for they change the limits of the region. The offsets
    are zeroed before the size is set, or a size that fits would be refused.
    """
    out = [FeatureSetting(name, value) for name, value in options.features.items()]
    if options.pixel_format is not None:
        out.append(FeatureSetting("PixelFormat", options.pixel_format))
    if options.width is not None:
        out.append(FeatureSetting("OffsetX", 0, is_optional=True))
    if options.height is not None:
        out.append(FeatureSetting("OffsetY", 0, is_optional=True))
    region = (
        ("Width", options.width),
        ("Height", options.height),
        ("OffsetX", options.offset_x),
        ("OffsetY", options.offset_y),
    )
    out += [FeatureSetting(name, value) for name, value in region if value is not None]
    out.append(FeatureSetting("TriggerSelector", "FrameStart", is_optional=True))
    out.append(
        FeatureSetting("TriggerMode", options.is_triggered, is_optional=not options.is_triggered)
    )
    if options.trigger_source is not None:
        out.append(FeatureSetting("TriggerSource", options.trigger_source))
    if options.frame_rate is not None:
        out.append(FeatureSetting("AcquisitionFrameRateEnable", True, is_optional=True))
        out.append(FeatureSetting("AcquisitionFrameRate", options.frame_rate))
    if options.exposure_time is not None:
        out.append(FeatureSetting("ExposureAuto", "Off", is_optional=True))
        out.append(FeatureSetting("ExposureTime", options.exposure_time))
    if options.gain is not None:
        out.append(FeatureSetting("GainAuto", "Off", is_optional=True))
        out.append(FeatureSetting("Gain", options.gain))
    return out
