"""Temperatures and throttling of the PC, as far as the kernel reports them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SYS_FOLDER = Path("/sys")


@dataclass(frozen=True, slots=True)
class HostTemperatures:
    """Sensor values that could be read."""

    temperatures: dict[str, float]
    """Sensor's name to degrees Celsius."""
    throttle_count: int | None
    """How often a core was throttled by heat since the PC started; None if not reported."""
    min_clock_ratio: float | None
    """Lowest ratio of a core's clock to its maximum; None if not reported."""


def read_host_state(sys_folder: Path = _SYS_FOLDER) -> HostTemperatures:
    """Read the available sensors; missing ones are no error.

    Args:
        sys_folder: Replaced in tests.
    """
    temperatures: dict[str, float] = {}
    for zone in sorted(sys_folder.glob("class/thermal/thermal_zone*")):
        milli = _read_int(zone / "temp")
        if milli is not None and -50_000 < milli < 200_000:
            name = f"{_read_text(zone / 'type') or 'zone'}-{zone.name.removeprefix('thermal_zone')}"
            temperatures[name] = milli / 1000
    for sensor in sorted(sys_folder.glob("class/hwmon/hwmon*/temp*_input")):
        milli = _read_int(sensor)
        if milli is not None and -50_000 < milli < 200_000:
            label = _read_text(sensor.with_name(sensor.name.replace("_input", "_label")))
            chip = _read_text(sensor.parent / "name") or sensor.parent.name
            name = label or sensor.name.removesuffix("_input")
            temperatures[f"{chip}-{name}".replace(" ", "_")] = milli / 1000
    cores = sys_folder.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    throttles = [count for path in cores if (count := _read_int(path)) is not None]
    speeds = []
    for folder in sys_folder.glob("devices/system/cpu/cpu*/cpufreq"):
        now, most = _read_int(folder / "scaling_cur_freq"), _read_int(folder / "cpuinfo_max_freq")
        if now and most:
            speeds.append(now / most)
    return HostTemperatures(
        temperatures, sum(throttles) if throttles else None, min(speeds) if speeds else None
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:64]
    except OSError:
        return ""


def _read_int(path: Path) -> int | None:
    try:
        return int(_read_text(path))
    except ValueError:
        return None
