"""Checks of the GPU: clocks and power, of an NVIDIA card or a Jetson."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

_TEGRA = "/etc/nv_tegra_release"
_FIELDS = (
    "name",
    "persistence_mode",
    "clocks_event_reasons.hw_slowdown",
    "clocks_event_reasons.sw_thermal_slowdown",
    "power.limit",
    "power.default_limit",
    "temperature.gpu",
)
_MAX_TEMPERATURE_C = 85


def check_gpu(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Check the settings of the GPU; skipped if there is none and the line needs none."""
    engines = config.engines if config else None
    tables = (engines.gate, engines.segmenter, engines.unknown) if engines else ()
    is_required = any(table is not None and table.get("type") == "trt" for table in tables)
    if host.read(_TEGRA) is not None:
        yield _check_jetson_mode(host)
        yield from _check_jetson_clocks(host)
        return
    if not host.path("/proc/driver/nvidia/version").exists():
        if is_required:
            yield failure(
                "gpu.driver",
                "the line has engines of type trt, but there is no NVIDIA driver",
                "install the driver (docs/howto/hardware.md), or use type ov",
            )
        else:
            yield skipped("gpu", "no NVIDIA GPU; the line needs none")
        return
    output = host.run_command(
        ("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader")
    )
    if output is None:
        yield failure(
            "gpu.driver", "nvidia-smi does not respond", "dmesg | grep -i nvrm; restart the PC"
        )
        return
    for index, line in enumerate(output.splitlines()):
        yield from _check_card(index, [word.strip() for word in line.split(",")])


def _check_card(index: int, values: list[str]) -> Iterator[Diagnostic]:
    if len(values) != len(_FIELDS):
        yield skipped(f"gpu.{index}", f"unexpected output of nvidia-smi: {', '.join(values)}")
        return
    name, persistent, hardware, thermal, limit, default, heat = values
    if persistent == "Enabled":
        yield ok(f"gpu.{index}.persistence", f"{name}: the driver stays loaded")
    else:
        yield warning(
            f"gpu.{index}.persistence",
            f"{name}: the driver is unloaded when the card is idle",
            "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
        )
    slowed = [w for w, on in (("power or heat", hardware), ("heat", thermal)) if on == "Active"]
    if slowed or (heat.isdigit() and int(heat) >= _MAX_TEMPERATURE_C):
        reason = f"slowed by {slowed[0]}" if slowed else "hot"
        yield failure(
            f"gpu.{index}.clocks", f"{reason}, {heat} °C", "clean its fan; check its supply"
        )
    else:
        yield ok(f"gpu.{index}.clocks", f"not slowed, {heat} °C")
    if limit != default:
        yield warning(
            f"gpu.{index}.power",
            f"limited to {limit}, by default {default}",
            f"nvidia-smi -i {index} -pl {default.split('.')[0]}",
        )
    else:
        yield ok(f"gpu.{index}.power", f"{limit}, its default")


def _check_jetson_mode(host: Host) -> Diagnostic:
    check = "gpu.power_mode"
    output = host.run_command(("nvpmodel", "-q"))
    if output is None:
        return skipped(check, "nvpmodel does not respond (it may need root)")
    mode = next(
        (w.partition(":")[2].strip() for w in output.splitlines() if "Power Mode" in w), "?"
    )
    if mode.startswith("MAXN"):
        return ok(check, f"{mode}: no limit")
    return warning(check, f"{mode}: clocks are limited to save power", "nvpmodel -m 0")


def _check_jetson_clocks(host: Host) -> Iterator[Diagnostic]:
    for path in host.glob("/sys/class/devfreq/*"):
        if not any(word in path.name for word in ("gpu", "gv11b", "ga10b", "gb10b", "nvgpu")):
            continue
        minimum, maximum = (host.read(path / f"{name}_freq") for name in ("min", "max"))
        if minimum is not None and minimum == maximum:
            yield ok("gpu.clocks", f"fixed at {int(minimum) // 1_000_000} MHz")
        else:
            yield warning(
                "gpu.clocks",
                "the clock drops between frames, which slows the next inspection",
                "jetson_clocks   (permanently: a unit that calls it after nvpmodel.service)",
            )
        return
    yield skipped("gpu.clocks", "the kernel does not show the GPU's clock")
