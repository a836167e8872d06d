"""Checks of the processor: clock governor, and real-time permissions of kernel and unit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")


def check_processor(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Check governor, real-time ratio, and the drop-in that a line's `real_time` needs."""
    yield _check_governor(host)
    yield _check_realtime_share(host)
    yield _check_realtime_limits(host, config)


def _check_governor(host: Host) -> Diagnostic:
    check = "processor.governor"
    paths = host.glob("/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    governors = {host.read(path) or "?" for path in paths}
    if not governors:
        return skipped(check, "the kernel does not set the processor's clock (a virtual machine?)")
    if governors == {"performance"}:
        return ok(check, f"performance on {len(paths)} processors")
    others = ", ".join(sorted(governors - {"performance"}))
    return warning(
        check,
        f"{others}: the clock drops between frames, which slows the next inspection",
        "cpupower frequency-set -g performance   (Debian: apt-get install linux-cpupower; "
        "permanently: governor='performance' in /etc/default/cpupower)",
    )


def _check_realtime_share(host: Host) -> Diagnostic:
    check = "processor.realtime_share"
    runtime, period = (
        host.read(f"/proc/sys/kernel/sched_rt_{name}_us") for name in ("runtime", "period")
    )
    if runtime is None or period is None:
        return skipped(check, "the kernel does not report it")
    if runtime == "-1":
        return ok(check, "real-time threads may use a whole processor")
    ratio = int(runtime) / int(period)
    if ratio >= 0.9:
        return ok(check, f"real-time threads may use {ratio:.0%} of a processor")
    return warning(
        check,
        f"real-time threads are stopped after {ratio:.0%} of each second",
        "sysctl kernel.sched_rt_runtime_us=950000   (permanently: a file in /etc/sysctl.d)",
    )


def _check_realtime_limits(host: Host, config: LineConfig | None) -> Diagnostic:
    check = "processor.realtime_limits"
    if config is None:
        return skipped(check, "no configuration given")
    required = config.real_time
    if required.fifo_priority is None and not required.lock_memory:
        return skipped(check, "the line uses no real-time settings (real_time)")
    text = _unit_text(host, config.line)
    if not text:
        return skipped(
            check, "the units are not installed: the user that runs the line needs the permissions"
        )
    missing = []
    limit = _last_setting(text, "LimitRTPRIO")
    enough = limit == "infinity" or (
        limit.isdigit() and int(limit) >= (required.fifo_priority or 0)
    )
    if required.fifo_priority is not None and not enough:
        missing.append(f"LimitRTPRIO is {limit or 'not set'}, required {required.fifo_priority}")
    locked = _last_setting(text, "LimitMEMLOCK")
    if required.lock_memory and locked != "infinity":
        missing.append(f"LimitMEMLOCK is {locked or 'not set'}, required infinity")
    if not missing:
        return ok(check, "the unit grants what real_time requires")
    folder = f"/etc/systemd/system/edgeinspect@{config.line}.service.d"
    return failure(
        check,
        "; ".join(missing),
        "install -D -m 644 /usr/share/edgeinspect/drop-ins/realtime.conf "
        f"{folder}/realtime.conf && systemctl daemon-reload && systemctl restart "
        f"edgeinspect@{config.line}",
    )


def _unit_text(host: Host, line: str) -> str:
    """Return the text of a line's unit followed by its drop-ins, as systemd reads them."""
    units, drop_ins = [], []
    for folder in reversed(_UNIT_FOLDERS):
        units.append(host.read(f"{folder}/edgeinspect@.service"))
        for name in ("edgeinspect@", f"edgeinspect@{line}"):
            paths = host.glob(f"{folder}/{name}.service.d/*.conf")
            drop_ins += [host.read(path) for path in paths]
    return "\n".join(text for text in (*units, *drop_ins) if text)


def _last_setting(text: str, key: str) -> str:
    values = re.findall(rf"^{key}=(.*)$", text, flags=re.MULTILINE)
    return str(values[-1]).strip() if values else ""
