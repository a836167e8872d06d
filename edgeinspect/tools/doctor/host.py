"""The checked PC: files below a root, and the few properties that are not in files."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SIOCETHTOOL = 0x8946
_ETHTOOL_GRINGPARAM = 0x10
_STA_UNSYNC = 0x0040
_COMMAND_TIMEOUT_S = 10
_TIMEX_BYTES = 256


class Host:
    """This PC, or a tree of files that represents one. Read-only.

    Args:
        root: The folder used as `/`.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str | Path) -> Path:
        """Return the path below the root for an absolute path of the PC."""
        return self.root / str(name).lstrip("/")

    def read(self, name: str | Path) -> str | None:
        """Return a file's text, stripped; None if it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def glob(self, pattern: str) -> list[Path]:
        """Return matching paths, sorted, as absolute paths of the PC."""
        paths = self.root.glob(pattern.lstrip("/"))
        return sorted(Path("/") / path.relative_to(self.root) for path in paths)

    def free_bytes(self, name: str | Path) -> int | None:
        """Return the free space where a path is or will be; None if no parent exists."""
        path = self._nearest_existing(name)
        return None if path is None else shutil.disk_usage(path).free

    def is_read_only(self, name: str | Path) -> bool:
        """Return True if the file system where a path is or will be is read-only."""
        path = self._nearest_existing(name)
        return path is not None and bool(os.statvfs(path).f_flag & os.ST_RDONLY)

    def _nearest_existing(self, name: str | Path) -> Path | None:
        """Return the path or its nearest existing parent; None if there is none."""
        path = self.path(name)
        while not path.exists():
            if path in (self.root, path.parent):
                return None
            path = path.parent
        return path

    def run_command(self, command: Sequence[str]) -> str | None:
        """Return the output of a command; None if it is missing or fails."""
        if shutil.which(command[0]) is None:
            return None
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def receive_ring(self, interface: str) -> tuple[int, int] | None:
        """Return (current, maximum) frames of a card's receive ring; None if it has none.

        Source: ethtool's ETHTOOL_GRINGPARAM, linux/ethtool.h
        """
        # cmd; rx_max, mini, jumbo, tx_max; rx, mini, jumbo, tx
        result = bytearray(struct.pack("@9I", _ETHTOOL_GRINGPARAM, *[0] * 8))
        buffer = (ctypes.c_char * len(result)).from_buffer(result)
        request = struct.pack("@16sP", interface.encode(), ctypes.addressof(buffer))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            try:
                fcntl.ioctl(channel, _SIOCETHTOOL, request.ljust(40, b"\0"))
            except OSError:
                return None
        values = struct.unpack("@9I", bytes(result))
        return (values[5], values[1]) if values[1] else None

    def is_clock_synchronised(self) -> bool | None:
        """Return whether the kernel's clock is synchronised to a source; None if unknown.

        Source: adjtimex(2), which chrony, ntpd, timesyncd and phc2sys all set.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        result = (ctypes.c_char * _TIMEX_BYTES)()
        if libc.adjtimex(ctypes.byref(result)) < 0:
            return None
        at = 5 * 8  # `status` is an int behind four longs and the padded `modes`
        status = struct.unpack_from("@i", bytes(result), at)[0]
        return not status & _STA_UNSYNC

    def is_root(self) -> bool:
        """Return True if this process may read every file."""
        return os.geteuid() == 0
