"""GPU: clocks and power mode, of a discrete NVIDIA card or of a Jetson's own."""

from __future__ import annotations

from collections.abc import Iterator

from edgeinspect.config.schema import LineConfig
from edgeinspect.tools.doctor.finding import Finding, bad, good, none, warn
from edgeinspect.tools.doctor.host import Machine

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
_HOT_C = 85


def examine_gpu(machine: Machine, config: LineConfig | None) -> Iterator[Finding]:
    """What the GPU is set to; nothing to say without one, if the line wants none."""
    tables = (config.engines.gate, config.engines.segmenter) if config else ()
    wanted = any(table is not None and table.get("type") == "trt" for table in tables)
    if machine.read(_TEGRA) is not None:
        yield _jetson_mode(machine)
        yield from _jetson_clocks(machine)
        return
    if not machine.path("/proc/driver/nvidia/version").exists():
        if wanted:
            yield bad(
                "gpu.driver",
                "the line's engines are of type trt, and there is no NVIDIA driver",
                "install the driver (docs/hardware.md), or use type ov",
            )
        else:
            yield none("gpu", "no NVIDIA GPU, and the line wants none")
        return
    said = machine.run(("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"))
    if said is None:
        yield bad(
            "gpu.driver", "nvidia-smi does not answer", "dmesg | grep -i nvrm; restart the PC"
        )
        return
    for index, line in enumerate(said.splitlines()):
        yield from _card(index, [word.strip() for word in line.split(",")])


def _card(index: int, words: list[str]) -> Iterator[Finding]:
    if len(words) != len(_FIELDS):
        yield none(f"gpu.{index}", f"nvidia-smi says what is not understood: {', '.join(words)}")
        return
    name, persistent, hardware, thermal, limit, default, heat = words
    if persistent == "Enabled":
        yield good(f"gpu.{index}.persistence", f"{name}: the driver stays loaded")
    else:
        yield warn(
            f"gpu.{index}.persistence",
            f"{name}: the driver lets the card sleep when nobody uses it",
            "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
        )
    slowed = [w for w, on in (("power or heat", hardware), ("heat", thermal)) if on == "Active"]
    if slowed or (heat.isdigit() and int(heat) >= _HOT_C):
        why = f"slowed by {slowed[0]}" if slowed else "hot"
        yield bad(f"gpu.{index}.clocks", f"{why}, {heat} °C", "clean its fan; check its supply")
    else:
        yield good(f"gpu.{index}.clocks", f"not slowed, {heat} °C")
    if limit != default:
        yield warn(
            f"gpu.{index}.power",
            f"limited to {limit}, by default {default}",
            f"nvidia-smi -i {index} -pl {default.split('.')[0]}",
        )
    else:
        yield good(f"gpu.{index}.power", f"{limit}, its default")


def _jetson_mode(machine: Machine) -> Finding:
    check = "gpu.power_mode"
    said = machine.run(("nvpmodel", "-q"))
    if said is None:
        return none(check, "nvpmodel does not answer (it may need root)")
    mode = next((w.partition(":")[2].strip() for w in said.splitlines() if "Power Mode" in w), "?")
    if mode.startswith("MAXN"):
        return good(check, f"{mode}: no limit")
    return warn(check, f"{mode}: clocks are limited to save power", "nvpmodel -m 0")


def _jetson_clocks(machine: Machine) -> Iterator[Finding]:
    for path in machine.glob("/sys/class/devfreq/*"):
        if not any(word in path.name for word in ("gpu", "gv11b", "ga10b", "gb10b", "nvgpu")):
            continue
        least, most = (machine.read(path / f"{name}_freq") for name in ("min", "max"))
        if least is not None and least == most:
            yield good("gpu.clocks", f"fixed at {int(least) // 1_000_000} MHz")
        else:
            yield warn(
                "gpu.clocks",
                "the clock falls between two frames, and the next one is judged slowly",
                "jetson_clocks   (lasting: a unit that calls it after nvpmodel.service)",
            )
        return
    yield none("gpu.clocks", "the kernel does not show the GPU's clock")
