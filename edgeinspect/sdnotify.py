"""Telling systemd how the service is; nothing where there is no systemd.

Source: sd_notify(3)
"""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> bool:
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
