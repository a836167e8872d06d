"""GenICam features by name: written in a fixed order, then all read back and compared.

A camera that silently rounds an exposure, clips a gain or keeps yesterday's region of
interest would be judged by thresholds that were set for other pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeinspect.cameras._genicam.device import Device, Setting
from edgeinspect.errors import DataError

_NEAR_RATIO = 0.005
"""Floats may differ so much: an exposure counts in steps of the sensor's line time."""

_OLDER_NAMES = {
    "AcquisitionFrameRate": ("AcquisitionFrameRateAbs",),
    "ExposureTime": ("ExposureTimeAbs",),
    "Gain": ("GainAbs",),
    "DeviceTemperature": ("DeviceTemperatureInCelsius", "TemperatureAbs"),
    "PtpStatus": ("GevIEEE1588Status",),
}
"""What cameras from before SFNC 2.0 call it, where the unit is the same."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One setting, as configured."""

    name: str
    value: Setting
    optional: bool = False
    """True for one that only prepares another: a camera without it needs no preparation."""


def find(device: Device, name: str) -> tuple[str, Setting] | None:
    """(the name this device uses, its value); None if it has no such feature."""
    for candidate in (name, *_OLDER_NAMES.get(name, ())):
        value = device.read(candidate)
        if value is not None:
            return candidate, value
    return None


def apply(device: Device, features: Sequence[Feature]) -> None:
    """Write every feature in order, then read every one back.

    Raises:
        DataError: One does not exist, is refused, or stands at another value afterwards;
            all differences are named, with both values.
        CameraLostError: The device went away.
    """
    names = [_write(device, feature) for feature in features]
    wanted = {}
    for name, feature in zip(names, features, strict=True):
        if name is not None and not feature.optional:
            wanted[name] = feature.value  # the last write of a name counts
    different = []
    for name, value in wanted.items():
        found = device.read(name)
        if found is None or not same(value, found):
            stands = "cannot be read back" if found is None else f"the camera has {_text(found)}"
            different.append(f"{name}: {_text(value)} is configured, {stands}")
    if different:
        raise DataError(
            "; ".join(different),
            where=device.where,
            remedy="Write the value the camera can do into the configuration",
        )


def same(wanted: Setting, found: Setting) -> bool:
    """True if a camera's value is the one configured, but for rounding of floats."""
    if isinstance(wanted, str) or isinstance(found, str):
        return _text(as_written(wanted, found)) == _text(found)
    if isinstance(wanted, bool) or isinstance(found, bool):
        return bool(wanted) == bool(found)
    if isinstance(found, float):
        return math.isclose(wanted, found, rel_tol=_NEAR_RATIO, abs_tol=1e-9)
    return wanted == found


def as_written(wanted: Setting, found: Setting) -> Setting:
    """`On` and `Off` of a choice, which YAML reads as true and false, as words again."""
    if isinstance(wanted, bool) and isinstance(found, str):
        return "On" if wanted else "Off"
    return wanted


def _write(device: Device, feature: Feature) -> str | None:
    there = find(device, feature.name)
    if there is None:
        if feature.optional:
            return None
        raise DataError(
            f"has no feature {feature.name}, or not in this state",
            where=device.where,
            remedy="`arv-tool-0.8 features` or the maker's viewer lists those it has",
        )
    name, now = there
    if same(feature.value, now):
        return name  # a read-only feature may stand in a configuration, to be checked
    try:
        device.write(name, as_written(feature.value, now))
    except ValueError as error:
        if feature.optional:
            return None
        raise DataError(
            f"{name}: {_text(feature.value)} is refused (it has {_text(now)}): {error}",
            where=device.where,
            remedy="Write a value the camera can do into the configuration",
        ) from error
    return name


def _text(value: Setting) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
