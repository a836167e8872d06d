"""Telling systemd how the service is; nothing where there is no systemd.

Source: sd_notify(3), sd_watchdog_enabled(3)
"""

from __future__ import annotations

import os
import socket

from edgeinspect.domain import NS_PER_S, NS_PER_US, Clock

_NOTIFICATIONS_PER_TIMEOUT = 4
"""Beats within the watchdog's time: one that is lost or late is forgiven."""


def sd_notify(*lines: str) -> bool:
    """Send state lines, as `READY=1` or `STATUS=...`; True if there was somebody to tell."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto("\n".join(lines).encode(), address)
        except OSError:  # a service manager that is gone must not stop the line
            return False
    return True


def watchdog_ns() -> int | None:
    """The unit's `WatchdogSec=`; None if this process need not feed a watchdog."""
    said, whom = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not said.isdigit() or (whom and whom != str(os.getpid())):
        return None
    return int(said) * NS_PER_US or None


class WatchdogNotifier:
    """Feeds the watchdog, no more often than it wants. For one thread.

    Call `beat` whenever the program has got on; never from a thread that only lives.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        wanted_ns = watchdog_ns()
        self._every_ns = wanted_ns // _NOTIFICATIONS_PER_TIMEOUT if wanted_ns else None
        self._next_ns = clock.now_ns()

    @property
    def period_s(self) -> float:
        """Time between beats; endless without a watchdog."""
        return self._every_ns / NS_PER_S if self._every_ns else float("inf")

    def notify(self) -> None:
        """Say that the program gets on."""
        if self._every_ns is None or self._clock.now_ns() < self._next_ns:
            return
        self._next_ns = self._clock.now_ns() + self._every_ns // 2
        sd_notify("WATCHDOG=1")
