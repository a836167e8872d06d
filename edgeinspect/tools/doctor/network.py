"""Network: what a GigE camera needs so that no packet is dropped.

Source: the GigE Vision vendors' set-up pages agree on jumbo frames, a full receive ring and
large socket buffers; 4 MiB is what Aravis asks for here (cameras/aravis.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config.schema import LineConfig
from edgeinspect.tools.doctor.finding import Finding, good, none, warn
from edgeinspect.tools.doctor.host import Machine

NETWORK_CAMERAS = frozenset({"aravis", "genicam", "pylon"})
"""Camera types whose pictures come as packets; others' come whole, by TCP or by a bus."""
BUFFER_BYTES = 4 << 20
JUMBO_BYTES = 8192
"""Least MTU that counts as jumbo; cards differ between 8192 and 9216."""


def examine_network(machine: Machine, config: LineConfig | None) -> Iterator[Finding]:
    """Socket buffers, and MTU and receive ring of each card that is in use."""
    types = {str(table.get("type")) for table in config.cameras.values()} if config else None
    if types is not None and not types & NETWORK_CAMERAS:
        yield none("network", "no camera of this line sends packets")
        return
    yield _buffers(machine)
    cards = [path.name for path in machine.glob("/sys/class/net/*") if _in_use(machine, path)]
    if not cards:
        yield none("network.cards", "no network card is in use")
    for card in cards:
        yield _mtu(machine, card)
        yield _ring(machine, card)


def _buffers(machine: Machine) -> Finding:
    check = "network.socket_buffers"
    text = machine.read("/proc/sys/net/core/rmem_max")
    if text is None or not text.isdigit():
        return none(check, "the kernel does not say")
    if int(text) >= BUFFER_BYTES:
        return good(check, f"net.core.rmem_max is {int(text) >> 20} MiB")
    return warn(
        check,
        f"net.core.rmem_max is {int(text) >> 10} KiB: packets of a GigE camera are dropped when "
        "the daemon is late by a few ms",
        f"sysctl net.core.rmem_max={BUFFER_BYTES * 4}   (lasting: a file in /etc/sysctl.d)",
    )


def _in_use(machine: Machine, path: Path) -> bool:
    """A real card with a cable, and no radio."""
    real = machine.path(path / "device").exists()
    radio = machine.path(path / "wireless").exists()
    return real and not radio and machine.read(path / "operstate") == "up"


def _mtu(machine: Machine, card: str) -> Finding:
    check = f"network.{card}.mtu"
    text = machine.read(f"/sys/class/net/{card}/mtu") or "0"
    mtu_bytes = int(text) if text.isdigit() else 0
    if mtu_bytes >= JUMBO_BYTES:
        return good(check, f"{mtu_bytes} bytes: jumbo frames")
    return warn(
        check,
        f"{mtu_bytes} bytes: six times as many packets as with jumbo frames",
        f"if a camera is on it: ip link set {card} mtu 9000, and the same packet size in the "
        "camera (a switch between must pass it)",
    )


def _ring(machine: Machine, card: str) -> Finding:
    check = f"network.{card}.ring"
    ring = machine.receive_ring(card)
    if ring is None:
        return none(check, "the card has no ring that can be set")
    now, most = ring
    if now >= most:
        return good(check, f"{now} frames, as many as it has")
    return warn(
        check,
        f"{now} of {most} frames: a burst of packets overruns it",
        f"if a camera is on it: ethtool -G {card} rx {most}",
    )
