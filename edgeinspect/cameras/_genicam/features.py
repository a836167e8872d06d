"""GenICam features by name: written in a fixed order, then all read back and compared.

A camera that silently rounds an exposure, clips a gain or keeps yesterday's region of
interest would be judged by thresholds that were set for other pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeinspect.cameras._genicam.device import Device, FeatureValue
from edgeinspect.errors import DataError

_FLOAT_TOLERANCE_RATIO = 0.005
"""Floats may differ so much: an exposure counts in steps of the sensor's line time."""

_LEGACY_NAMES = {
    "AcquisitionFrameRate": ("AcquisitionFrameRateAbs",),
    "ExposureTime": ("ExposureTimeAbs",),
    "Gain": ("GainAbs",),
    "DeviceTemperature": ("DeviceTemperatureInCelsius", "TemperatureAbs"),
    "PtpStatus": ("GevIEEE1588Status",),
}
"""What cameras from before SFNC 2.0 call it, where the unit is the same."""


@dataclass(frozen=True, slots=True)
class FeatureSetting:
    """One setting, as configured."""

    name: str
    value: FeatureValue
    is_optional: bool = False
    """True for one that only prepares another: a camera without it needs no preparation."""


def find_feature(device: Device, name: str) -> tuple[str, FeatureValue] | None:
    """(the name this device uses, its value); None if it has no such feature."""
    for candidate in (name, *_LEGACY_NAMES.get(name, ())):
        value = device.read(candidate)
        if value is not None:
            return candidate, value
    return None


def apply_features(device: Device, features: Sequence[FeatureSetting]) -> None:
    """Write every feature in order, then read every one back.

    Raises:
        DataError: One does not exist, is refused, or stands at another value afterwards;
            all differences are named, with both values.
        CameraLostError: The device went away.
    """
    names = [_write_feature(device, feature) for feature in features]
    wanted = {}
    for name, feature in zip(names, features, strict=True):
        if name is not None and not feature.is_optional:
            wanted[name] = feature.value  # the last write of a name counts
    different = []
    for name, value in wanted.items():
        found = device.read(name)
        if found is None or not values_match(value, found):
            stands = (
                "cannot be read back" if found is None else f"the camera has {_format_value(found)}"
            )
            different.append(f"{name}: {_format_value(value)} is configured, {stands}")
    if different:
        raise DataError(
            "; ".join(different),
            where=device.where,
            remedy="Write the value the camera can do into the configuration",
        )


def values_match(configured: FeatureValue, actual: FeatureValue) -> bool:
    """True if a camera's value is the one configured, but for rounding of floats."""
    if isinstance(configured, str) or isinstance(actual, str):
        return _format_value(restore_on_off(configured, actual)) == _format_value(actual)
    if isinstance(configured, bool) or isinstance(actual, bool):
        return bool(configured) == bool(actual)
    if isinstance(actual, float):
        return math.isclose(configured, actual, rel_tol=_FLOAT_TOLERANCE_RATIO, abs_tol=1e-9)
    return configured == actual


def restore_on_off(configured: FeatureValue, actual: FeatureValue) -> FeatureValue:
    """`On` and `Off` of a choice, which YAML reads as true and false, as words again."""
    if isinstance(configured, bool) and isinstance(actual, str):
        return "On" if configured else "Off"
    return configured


def _write_feature(device: Device, feature: FeatureSetting) -> str | None:
    there = find_feature(device, feature.name)
    if there is None:
        if feature.is_optional:
            return None
        raise DataError(
            f"has no feature {feature.name}, or not in this state",
            where=device.where,
            remedy="`arv-tool-0.8 features` or the maker's viewer lists those it has",
        )
    name, now = there
    if values_match(feature.value, now):
        return name  # a read-only feature may stand in a configuration, to be checked
    try:
        device.write(name, restore_on_off(feature.value, now))
    except ValueError as error:
        if feature.is_optional:
            return None
        raise DataError(
            f"{name}: {_format_value(feature.value)} is refused (it has {_format_value(now)}): "
            f"{error}",
            where=device.where,
            remedy="Write a value the camera can do into the configuration",
        ) from error
    return name


def _format_value(value: FeatureValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
