"""Checks of the network: what a GigE camera needs so that no packet is dropped.

Source: the setup pages of GigE Vision vendors agree on jumbo frames, a full receive ring and
large socket buffers; 4 MiB is what cameras/aravis.py requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.tools.doctor.diagnostic import Diagnostic, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

PACKET_CAMERA_TYPES = frozenset({"aravis", "genicam", "pylon"})
"""Camera types that send images as UDP packets; others use TCP or a bus."""
MIN_SOCKET_BUFFER_BYTES = 4 << 20
MIN_JUMBO_MTU_BYTES = 8192
"""Lowest MTU that counts as jumbo; cards differ between 8192 and 9216."""


def check_network(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Check socket buffers, and MTU and receive ring of each card in use."""
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


def _check_socket_buffers(host: Host) -> Diagnostic:
    check = "network.socket_buffers"
    text = host.read("/proc/sys/net/core/rmem_max")
    if text is None or not text.isdigit():
        return skipped(check, "the kernel does not report it")
    if int(text) >= MIN_SOCKET_BUFFER_BYTES:
        return ok(check, f"net.core.rmem_max is {int(text) >> 20} MiB")
    return warning(
        check,
        f"net.core.rmem_max is {int(text) >> 10} KiB: packets of a GigE camera are dropped if "
        "the daemon is delayed by a few ms",
        f"sysctl net.core.rmem_max={MIN_SOCKET_BUFFER_BYTES * 4}   (permanently: a file in "
        "/etc/sysctl.d)",
    )


def _in_use(host: Host, path: Path) -> bool:
    """Return True for a physical, wired card with a cable."""
    real = host.path(path / "device").exists()
    radio = host.path(path / "wireless").exists()
    return real and not radio and host.read(path / "operstate") == "up"


def _check_mtu(host: Host, card: str) -> Diagnostic:
    check = f"network.{card}.mtu"
    text = host.read(f"/sys/class/net/{card}/mtu") or "0"
    mtu_bytes = int(text) if text.isdigit() else 0
    if mtu_bytes >= MIN_JUMBO_MTU_BYTES:
        return ok(check, f"{mtu_bytes} bytes: jumbo frames")
    return warning(
        check,
        f"{mtu_bytes} bytes: six times as many packets as with jumbo frames",
        f"if a camera is on it: ip link set {card} mtu 9000, and the same packet size in the "
        "camera (a switch in between must support it)",
    )


def _check_receive_ring(host: Host, card: str) -> Diagnostic:
    check = f"network.{card}.ring"
    receive_ring = host.receive_ring(card)
    if receive_ring is None:
        return skipped(check, "the card has no configurable ring")
    current, maximum = receive_ring
    if current >= maximum:
        return ok(check, f"{current} frames, the maximum")
    return warning(
        check,
        f"{current} of {maximum} frames: a burst of packets overruns it",
        f"if a camera is on it: ethtool -G {card} rx {maximum}",
    )
