"""Notifications to systemd: ready, status, watchdog. No effect without systemd.

Source: sd_notify(3), sd_watchdog_enabled(3)
"""

from __future__ import annotations

import os
import socket

from edgeinspect.domain import NS_PER_S, NS_PER_US, Clock

_NOTIFICATIONS_PER_TIMEOUT = 4
"""Notifications per `WatchdogSec=`, so that a lost or late one is tolerated."""


def sd_notify(*lines: str) -> bool:
    """Send state lines such as `READY=1`; False if there is no service manager."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto("\n".join(lines).encode(), address)
        except OSError:  # the line must not stop because the service manager is gone
            return False
    return True


def watchdog_ns() -> int | None:
    """Return the unit's `WatchdogSec=`; None if systemd expects no notifications."""
    timeout_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not timeout_us.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(timeout_us) * NS_PER_US or None


class WatchdogNotifier:
    """Notifies systemd's watchdog, no more often than necessary. For one thread.

    Call `notify` after a liveness check, never unconditionally.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        timeout_ns = watchdog_ns()
        self._interval_ns = timeout_ns // _NOTIFICATIONS_PER_TIMEOUT if timeout_ns else None
        self._next_ns = clock.now_ns()

    @property
    def period_s(self) -> float:
        """Time between notifications; infinite without a watchdog."""
        return self._interval_ns / NS_PER_S if self._interval_ns else float("inf")

    def notify(self) -> None:
        """Report that the process makes progress."""
        if self._interval_ns is None or self._clock.now_ns() < self._next_ns:
            return
        self._next_ns = self._clock.now_ns() + self._interval_ns // 2
        sd_notify("WATCHDOG=1")
