"""Processor: its clock's governor, and what real time the kernel and the unit grant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeinspect.config.schema import LineConfig
from edgeinspect.tools.doctor.finding import Finding, bad, good, none, warn
from edgeinspect.tools.doctor.host import Machine

_UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")


def examine_processor(machine: Machine, config: LineConfig | None) -> Iterator[Finding]:
    """Governor, real-time share, and the drop-in that a line's `real_time` needs."""
    yield _governor(machine)
    yield _share(machine)
    yield _limits(machine, config)


def _governor(machine: Machine) -> Finding:
    check = "processor.governor"
    paths = machine.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    found = {machine.read(path) or "?" for path in paths}
    if not found:
        return none(check, "the kernel does not set the processor's clock (a virtual machine?)")
    if found == {"performance"}:
        return good(check, f"performance on {len(paths)} processors")
    others = ", ".join(sorted(found - {"performance"}))
    return warn(
        check,
        f"{others}: the clock falls between two frames, and the next one is judged slowly",
        "cpupower frequency-set -g performance   (Debian: apt-get install linux-cpupower; "
        "lasting: governor='performance' in /etc/default/cpupower)",
    )


def _share(machine: Machine) -> Finding:
    check = "processor.realtime_share"
    runtime, period = (
        machine.read(f"/proc/sys/kernel/sched_rt_{name}_us") for name in ("runtime", "period")
    )
    if runtime is None or period is None:
        return none(check, "the kernel does not say")
    if runtime == "-1":
        return good(check, "real-time threads may use a processor wholly")
    share = int(runtime) / int(period)
    if share >= 0.9:
        return good(check, f"real-time threads may use {share:.0%} of a processor")
    return warn(
        check,
        f"real-time threads are stopped after {share:.0%} of each second",
        "sysctl kernel.sched_rt_runtime_us=950000   (lasting: a file in /etc/sysctl.d)",
    )


def _limits(machine: Machine, config: LineConfig | None) -> Finding:
    check = "processor.realtime_limits"
    if config is None:
        return none(check, "no configuration given")
    wanted = config.real_time
    if wanted.fifo_priority is None and not wanted.lock_memory:
        return none(check, "the line asks for no real time (real_time)")
    text = _unit_text(machine, config.line)
    if not text:
        return none(check, "the units are not installed: whoever runs the line needs the rights")
    missing = []
    limit = _last(text, "LimitRTPRIO")
    enough = limit == "infinity" or (limit.isdigit() and int(limit) >= (wanted.fifo_priority or 0))
    if wanted.fifo_priority is not None and not enough:
        missing.append(f"LimitRTPRIO is {limit or 'not set'}, wanted {wanted.fifo_priority}")
    locked = _last(text, "LimitMEMLOCK")
    if wanted.lock_memory and locked != "infinity":
        missing.append(f"LimitMEMLOCK is {locked or 'not set'}, wanted infinity")
    if not missing:
        return good(check, "the unit grants what real_time asks for")
    folder = f"/etc/systemd/system/edgeinspect@{config.line}.service.d"
    return bad(
        check,
        "; ".join(missing),
        "install -D -m 644 /usr/share/edgeinspect/drop-ins/realtime.conf "
        f"{folder}/realtime.conf && systemctl daemon-reload",
    )


def _unit_text(machine: Machine, line: str) -> str:
    """The unit of a line with its drop-ins behind it, as systemd would read them."""
    units, drop_ins = [], []
    for folder in reversed(_UNITS):
        units.append(machine.read(f"{folder}/edgeinspect@.service"))
        for name in ("edgeinspect@", f"edgeinspect@{line}"):
            paths = machine.glob(f"{folder}/{name}.service.d/*.conf")
            drop_ins += [machine.read(path) for path in paths]
    return "\n".join(text for text in (*units, *drop_ins) if text)


def _last(text: str, key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)
    return str(found[-1]).strip() if found else ""
