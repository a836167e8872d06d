"""GPU: clocks and power mode, of a discrete NVIDIA card or of a Jetson's own."""

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
    """What the GPU is set to; nothing to say without one, if the line wants none."""
    tables = (config.engines.gate, config.engines.segmenter) if config else ()
    wanted = any(table is not None and table.get("type") == "trt" for table in tables)
    if host.read(_TEGRA) is not None:
        yield _check_jetson_mode(host)
        yield from _check_jetson_clocks(host)
        return
    if not host.path("/proc/driver/nvidia/version").exists():
        if wanted:
            yield failure(
                "gpu.driver",
                "the line's engines are of type trt, and there is no NVIDIA driver",
                "install the driver (docs/hardware.md), or use type ov",
            )
        else:
            yield skipped("gpu", "no NVIDIA GPU, and the line wants none")
        return
    said = host.run_command(
        ("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader")
    )
    if said is None:
        yield failure(
            "gpu.driver", "nvidia-smi does not answer", "dmesg | grep -i nvrm; restart the PC"
        )
        return
    for index, line in enumerate(said.splitlines()):
        yield from _check_card(index, [word.strip() for word in line.split(",")])


def _check_card(index: int, values: list[str]) -> Iterator[Diagnostic]:
    if len(values) != len(_FIELDS):
        yield skipped(
            f"gpu.{index}", f"nvidia-smi says what is not understood: {', '.join(values)}"
        )
        return
    name, persistent, hardware, thermal, limit, default, heat = values
    if persistent == "Enabled":
        yield ok(f"gpu.{index}.persistence", f"{name}: the driver stays loaded")
    else:
        yield warning(
            f"gpu.{index}.persistence",
            f"{name}: the driver lets the card sleep when nobody uses it",
            "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
        )
    slowed = [w for w, on in (("power or heat", hardware), ("heat", thermal)) if on == "Active"]
    if slowed or (heat.isdigit() and int(heat) >= _MAX_TEMPERATURE_C):
        why = f"slowed by {slowed[0]}" if slowed else "hot"
        yield failure(f"gpu.{index}.clocks", f"{why}, {heat} °C", "clean its fan; check its supply")
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


def _check_jetson_mode(machine: Host) -> Diagnostic:
    check = "gpu.power_mode"
    said = machine.run_command(("nvpmodel", "-q"))
    if said is None:
        return skipped(check, "nvpmodel does not answer (it may need root)")
    mode = next((w.partition(":")[2].strip() for w in said.splitlines() if "Power Mode" in w), "?")
    if mode.startswith("MAXN"):
        return ok(check, f"{mode}: no limit")
    return warning(check, f"{mode}: clocks are limited to save power", "nvpmodel -m 0")


def _check_jetson_clocks(machine: Host) -> Iterator[Diagnostic]:
    for path in machine.glob("/sys/class/devfreq/*"):
        if not any(word in path.name for word in ("gpu", "gv11b", "ga10b", "gb10b", "nvgpu")):
            continue
        least, most = (machine.read(path / f"{name}_freq") for name in ("min", "max"))
        if least is not None and least == most:
            yield ok("gpu.clocks", f"fixed at {int(least) // 1_000_000} MHz")
        else:
            yield warning(
                "gpu.clocks",
                "the clock falls between two frames, and the next one is judged slowly",
                "jetson_clocks   (lasting: a unit that calls it after nvpmodel.service)",
            )
        return
    yield skipped("gpu.clocks", "the kernel does not show the GPU's clock")
