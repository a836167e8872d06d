"""Processor: its clock's governor, and what real time the kernel and the unit grant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")


def check_processor(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Governor, real-time share, and the drop-in that a line's `real_time` needs."""
    yield _check_governor(host)
    yield _check_realtime_share(host)
    yield _check_realtime_limits(host, config)


def _check_governor(machine: Host) -> Diagnostic:
    check = "processor.governor"
    paths = machine.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    found = {machine.read(path) or "?" for path in paths}
    if not found:
        return skipped(check, "the kernel does not set the processor's clock (a virtual machine?)")
    if found == {"performance"}:
        return ok(check, f"performance on {len(paths)} processors")
    others = ", ".join(sorted(found - {"performance"}))
    return warning(
        check,
        f"{others}: the clock falls between two frames, and the next one is judged slowly",
        "cpupower frequency-set -g performance   (Debian: apt-get install linux-cpupower; "
        "lasting: governor='performance' in /etc/default/cpupower)",
    )


def _check_realtime_share(machine: Host) -> Diagnostic:
    check = "processor.realtime_share"
    runtime, period = (
        machine.read(f"/proc/sys/kernel/sched_rt_{name}_us") for name in ("runtime", "period")
    )
    if runtime is None or period is None:
        return skipped(check, "the kernel does not say")
    if runtime == "-1":
        return ok(check, "real-time threads may use a processor wholly")
    share = int(runtime) / int(period)
    if share >= 0.9:
        return ok(check, f"real-time threads may use {share:.0%} of a processor")
    return warning(
        check,
        f"real-time threads are stopped after {share:.0%} of each second",
        "sysctl kernel.sched_rt_runtime_us=950000   (lasting: a file in /etc/sysctl.d)",
    )


def _check_realtime_limits(machine: Host, config: LineConfig | None) -> Diagnostic:
    check = "processor.realtime_limits"
    if config is None:
        return skipped(check, "no configuration given")
    wanted = config.real_time
    if wanted.fifo_priority is None and not wanted.lock_memory:
        return skipped(check, "the line asks for no real time (real_time)")
    text = _unit_text(machine, config.line)
    if not text:
        return skipped(check, "the units are not installed: whoever runs the line needs the rights")
    missing = []
    limit = _last_setting(text, "LimitRTPRIO")
    enough = limit == "infinity" or (limit.isdigit() and int(limit) >= (wanted.fifo_priority or 0))
    if wanted.fifo_priority is not None and not enough:
        missing.append(f"LimitRTPRIO is {limit or 'not set'}, wanted {wanted.fifo_priority}")
    locked = _last_setting(text, "LimitMEMLOCK")
    if wanted.lock_memory and locked != "infinity":
        missing.append(f"LimitMEMLOCK is {locked or 'not set'}, wanted infinity")
    if not missing:
        return ok(check, "the unit grants what real_time asks for")
    folder = f"/etc/systemd/system/edgeinspect@{config.line}.service.d"
    return failure(
        check,
        "; ".join(missing),
        "install -D -m 644 /usr/share/edgeinspect/drop-ins/realtime.conf "
        f"{folder}/realtime.conf && systemctl daemon-reload",
    )


def _unit_text(machine: Host, line: str) -> str:
    """The unit of a line with its drop-ins behind it, as systemd would read them."""
    units, drop_ins = [], []
    for folder in reversed(_UNIT_FOLDERS):
        units.append(machine.read(f"{folder}/edgeinspect@.service"))
        for name in ("edgeinspect@", f"edgeinspect@{line}"):
            paths = machine.glob(f"{folder}/{name}.service.d/*.conf")
            drop_ins += [machine.read(path) for path in paths]
    return "\n".join(text for text in (*units, *drop_ins) if text)


def _last_setting(text: str, key: str) -> str:
    found = re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)
    return str(found[-1]).strip() if found else ""
