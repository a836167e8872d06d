"""Writes GenICam features in a fixed order, then reads all back and compares them.

A camera that silently rounds an exposure, clips a gain or keeps an old region of interest would
deliver images for which the thresholds were not set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeinspect.cameras._genicam.device import FeatureValue, GenicamDevice
from edgeinspect.errors import DataError

_FLOAT_TOLERANCE_RATIO = 0.005
"""Tolerance of floats: an exposure is a multiple of the sensor's line time."""

_LEGACY_NAMES = {
    "AcquisitionFrameRate": ("AcquisitionFrameRateAbs",),
    "ExposureTime": ("ExposureTimeAbs",),
    "Gain": ("GainAbs",),
    "DeviceTemperature": ("DeviceTemperatureInCelsius", "TemperatureAbs"),
    "PtpStatus": ("GevIEEE1588Status",),
}
"""Names before SFNC 2.0 of features with the same unit."""


@dataclass(frozen=True, slots=True)
class FeatureSetting:
    """One configured feature."""

    name: str
    value: FeatureValue
    is_optional: bool = False
    """True for a feature that only prepares another one, and may be absent."""


def find_feature(device: GenicamDevice, name: str) -> tuple[str, FeatureValue] | None:
    """Return (name on this device, value); None if it has no such feature."""
    for candidate in (name, *_LEGACY_NAMES.get(name, ())):
        value = device.read(candidate)
        if value is not None:
            return candidate, value
    return None


def apply_features(device: GenicamDevice, features: Sequence[FeatureSetting]) -> None:
    """Write every feature in order, then read every one back.

    Raises:
        DataError: A feature does not exist, is refused, or has another value afterwards; all
            differences are listed with both values.
        CameraLostError: The device is gone.
    """
    names = [_write_feature(device, feature) for feature in features]
    configured = {}
    for name, feature in zip(names, features, strict=True):
        if name is not None and not feature.is_optional:
            configured[name] = feature.value  # the last value of a name counts
    different = []
    for name, value in configured.items():
        actual = device.read(name)
        if actual is None or not values_match(value, actual):
            state = (
                "cannot be read back"
                if actual is None
                else f"the camera has {_format_value(actual)}"
            )
            different.append(f"{name}: {_format_value(value)} is configured, {state}")
    if different:
        raise DataError(
            "; ".join(different),
            where=device.where,
            remedy="Configure a value that the camera supports",
        )


def values_match(configured: FeatureValue, actual: FeatureValue) -> bool:
    """Return True if the values are equal, except for rounding of floats."""
    if isinstance(configured, str) or isinstance(actual, str):
        return _format_value(restore_on_off(configured, actual)) == _format_value(actual)
    if isinstance(configured, bool) or isinstance(actual, bool):
        return bool(configured) == bool(actual)
    if isinstance(actual, float):
        return math.isclose(configured, actual, rel_tol=_FLOAT_TOLERANCE_RATIO, abs_tol=1e-9)
    return configured == actual


def restore_on_off(configured: FeatureValue, actual: FeatureValue) -> FeatureValue:
    """Return `On` or `Off` for an enumeration, which YAML parses as true and false."""
    if isinstance(configured, bool) and isinstance(actual, str):
        return "On" if configured else "Off"
    return configured


def _write_feature(device: GenicamDevice, feature: FeatureSetting) -> str | None:
    existing = find_feature(device, feature.name)
    if existing is None:
        if feature.is_optional:
            return None
        raise DataError(
            f"has no feature {feature.name}, or not in this state",
            where=device.where,
            remedy="`arv-tool-0.8 features` or the maker's viewer lists the available features",
        )
    name, now = existing
    if values_match(feature.value, now):
        return name  # a read-only feature may be configured, to be compared
    try:
        device.write(name, restore_on_off(feature.value, now))
    except ValueError as error:
        if feature.is_optional:
            return None
        raise DataError(
            f"{name}: {_format_value(feature.value)} is refused (it has {_format_value(now)}): "
            f"{error}",
            where=device.where,
            remedy="Configure a value that the camera supports",
        ) from error
    return name


def _format_value(value: FeatureValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
