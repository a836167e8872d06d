"""Network: what a GigE camera needs so that no packet is dropped.

Source: the GigE Vision vendors' set-up pages agree on jumbo frames, a full receive ring and
large socket buffers; 4 MiB is what Aravis asks for here (cameras/aravis.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

PACKET_CAMERA_TYPES = frozenset({"aravis", "genicam", "pylon"})
"""Camera types whose pictures come as packets; others' come whole, by TCP or by a bus."""
MIN_SOCKET_BUFFER_BYTES = 4 << 20
MIN_JUMBO_MTU_BYTES = 8192
"""Least MTU that counts as jumbo; cards differ between 8192 and 9216."""


def check_network(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Socket buffers, and MTU and receive ring of each card that is in use."""
    types = {str(table.get("type")) for table in config.cameras.values()} if config else None
    if types is not None and not types & PACKET_CAMERA_TYPES:
        yield skipped("network", "no camera of this line sends packets")
        return
    yield _check_socket_buffers(host)
    cards = [path.name for path in host.glob("/sys/class/net/*") if _in_use(host, path)]
    if not cards:
        yield skipped("network.cards", "no network card is in use")
    for card in cards:
        yield _check_mtu(host, card)
        yield _check_receive_ring(host, card)


def _check_socket_buffers(machine: Host) -> Diagnostic:
    check = "network.socket_buffers"
    text = machine.read("/proc/sys/net/core/rmem_max")
    if text is None or not text.isdigit():
        return skipped(check, "the kernel does not say")
    if int(text) >= MIN_SOCKET_BUFFER_BYTES:
        return ok(check, f"net.core.rmem_max is {int(text) >> 20} MiB")
    return warning(
        check,
        f"net.core.rmem_max is {int(text) >> 10} KiB: packets of a GigE camera are dropped when "
        "the daemon is late by a few ms",
        f"sysctl net.core.rmem_max={MIN_SOCKET_BUFFER_BYTES * 4}   (lasting: a file in "
        "/etc/sysctl.d)",
    )


def _in_use(machine: Host, path: Path) -> bool:
    """A real card with a cable, and no radio."""
    real = machine.path(path / "device").exists()
    radio = machine.path(path / "wireless").exists()
    return real and not radio and machine.read(path / "operstate") == "up"


def _check_mtu(machine: Host, card: str) -> Diagnostic:
    check = f"network.{card}.mtu"
    text = machine.read(f"/sys/class/net/{card}/mtu") or "0"
    mtu_bytes = int(text) if text.isdigit() else 0
    if mtu_bytes >= MIN_JUMBO_MTU_BYTES:
        return ok(check, f"{mtu_bytes} bytes: jumbo frames")
    return warning(
        check,
        f"{mtu_bytes} bytes: six times as many packets as with jumbo frames",
        f"if a camera is on it: ip link set {card} mtu 9000, and the same packet size in the "
        "camera (a switch between must pass it)",
    )


def _check_receive_ring(machine: Host, card: str) -> Diagnostic:
    check = f"network.{card}.ring"
    ring = machine.receive_ring(card)
    if ring is None:
        return skipped(check, "the card has no ring that can be set")
    now, most = ring
    if now >= most:
        return ok(check, f"{now} frames, as many as it has")
    return warning(
        check,
        f"{now} of {most} frames: a burst of packets overruns it",
        f"if a camera is on it: ethtool -G {card} rx {most}",
    )
