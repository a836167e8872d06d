"""Binds a line's sockets, and explains why an address cannot be bound.

The listening sockets are created here and passed to ZeroMQ (ZMQ_USE_FD): so the file of a Unix
socket gets a mode, a crashed daemon's file is removed and that of a running daemon is not, and
an address that the PC does not have yet is bound anyway (IP_FREEBIND).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket as sockets
import stat
import time
from pathlib import Path
from typing import Any

import structlog
import zmq

from edgeinspect.errors import AddressError, ConfigError, ConfigFault, EdgeInspectError
from edgeinspect.system import log_events, user_name
from edgeinspect.wire.tcp_connections import drop_packets, drop_resets
from edgeinspect.wire.zap import Socket

_SocketAddress = tuple[Any, ...]
"""The argument of `socket.bind`; for IPv6 with the scope."""
_PAUSED_SUFFIX = ".shut"
"""Suffix of a Unix socket's file while accepting is paused."""
SOCKET_MODE = 0o660
"""Mode of a Unix socket's file: the group of its folder may connect."""
_TCP = re.compile(r"tcp://(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5}|\*)")
_BIND_ATTEMPTS = 10
_RETRY_INTERVAL_S = 0.05
"""The sockets of a daemon that was just killed exist for a moment."""
_BACKLOG = 16
"""Further clients retry after a second, which limits the new ones between two checks."""
HANDSHAKE_MS = 5_000
"""A connection without a complete handshake is ended after this time."""
# Source: man 7 netdevice, linux/if.h (struct ifreq)
_SIOCGIFADDR = 0x8915
_IFREQ_BYTES = 40
_NAME_BYTES_MAX = 15
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_RETRYABLE_ERRNOS = (
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,
    errno.ENODEV,
    errno.ENETDOWN,
    errno.ENOBUFS,
)
_log = structlog.get_logger()


class BoundEndpoint:
    """A bound address, at which accepting can be paused. Thread-safe."""

    def __init__(
        self,
        address: str,
        listener: sockets.socket | None = None,
        file: tuple[str, tuple[int, int]] | None = None,
    ) -> None:
        self.address = address
        self._listener = listener
        """Of TCP, in addition to ZeroMQ's own descriptor."""
        self._file = file
        """Of a Unix socket: its path, device and inode."""

    def pause_accepting(self) -> None:
        """Accept no new clients; connected ones stay, and new ones retry."""
        with contextlib.suppress(OSError):
            if self._listener is not None:
                drop_packets(self._listener)
            elif self._file is not None:
                os.rename(self._file[0], self._file[0] + _PAUSED_SUFFIX)

    def resume_accepting(self) -> None:
        """Accept new clients again."""
        with contextlib.suppress(OSError):
            if self._listener is not None:
                drop_resets(self._listener)
            elif self._file is not None:
                os.rename(self._file[0] + _PAUSED_SUFFIX, self._file[0])

    def release(self) -> None:
        """Release the address and remove the socket's file, after the socket was closed."""
        if self._listener is not None:
            self._listener.close()
        if self._file is not None:
            path, identity = self._file
            _remove_own_socket(path, identity)
            _remove_own_socket(path + _PAUSED_SUFFIX, identity)


def bind(socket: Socket, address: str, key: str, *, receive_bytes: int = 0) -> BoundEndpoint:
    """Bind a ZeroMQ socket.

    Args:
        socket: Prepared, not bound.
        address: As in the configuration.
        key: The address's configuration key, for messages.
        receive_bytes: Size of the kernel's receive buffer of a TCP client; 0 for its default.

    Returns:
        The bound address, to be released when the socket is closed.

    Raises:
        AddressError: It is in use, or does not exist yet.
        ConfigError: It can never be bound.
    """
    for remaining in reversed(range(_BIND_ATTEMPTS)):
        try:
            return _bind(socket, address, key, receive_bytes)
        except (OSError, zmq.ZMQError) as error:
            if error.errno == errno.EADDRINUSE and remaining:
                time.sleep(_RETRY_INTERVAL_S)
                continue
            raise _bind_error(error, address, key) from error
    raise AssertionError


def _bind(socket: Socket, address: str, key: str, receive_bytes: int) -> BoundEndpoint:
    path = address.removeprefix("ipc://")
    match = _TCP.fullmatch(address)
    if path != address and not path.startswith("@"):
        listener = _listen_on_unix(Path(path), key)
        status = os.lstat(path)
        _bind_descriptor(socket, listener, address)
        return BoundEndpoint(address, file=(path, (status.st_dev, status.st_ino)))
    address_info = _resolve(match[1], match[2]) if match else None
    if address_info is None:  # inproc, an abstract name, or not resolvable
        socket.bind(address)
        return BoundEndpoint(address)
    listener = _listen_on_tcp(*address_info, address, receive_bytes)
    host, port = listener.getsockname()[:2]
    display_host = f"[{host}]" if ":" in host else host
    socket.ipv6 = ":" in host
    duplicate = listener.dup()
    try:
        _bind_descriptor(socket, listener, f"tcp://{display_host}:{port}")
    except BaseException:
        duplicate.close()
        raise
    return BoundEndpoint(address, listener=duplicate)


def _bind_descriptor(socket: Socket, listener: sockets.socket, address: str) -> None:
    with listener:
        listener.setblocking(False)
        socket.setsockopt(zmq.USE_FD, listener.fileno())
        socket.ipv6 = "[" in address  # libzmq parses only IPv4 by default
        socket.bind(address)
        listener.detach()  # ZeroMQ closes it


def _resolve(host: str, port: str) -> tuple[sockets.AddressFamily, _SocketAddress] | None:
    """Return family and address of a TCP host or network interface; None if it is neither."""
    number = 0 if port == "*" else int(port)
    if host == "*":
        return sockets.AF_INET, ("0.0.0.0", number)
    with contextlib.suppress(OSError, UnicodeError):
        resolved = sockets.getaddrinfo(host.strip("[]"), None, flags=sockets.AI_NUMERICHOST)
        family, (name, _port, *scope) = resolved[0][0], resolved[0][4]
        return family, (name, number, *scope)
    with contextlib.suppress(OSError), sockets.socket() as any_socket:
        interface = host.encode()
        if len(interface) > _NAME_BYTES_MAX:
            return None
        request = fcntl.ioctl(any_socket, _SIOCGIFADDR, interface.ljust(_IFREQ_BYTES, b"\0"))
        return sockets.AF_INET, (sockets.inet_ntoa(request[20:24]), number)
    return None


def _listen_on_tcp(
    family: sockets.AddressFamily, address_info: _SocketAddress, address: str, receive_bytes: int
) -> sockets.socket:
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        if receive_bytes:  # inherited by accepted connections
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, receive_bytes)
        drop_resets(listener)
        try:
            listener.bind(address_info)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            if family == sockets.AF_INET6:
                listener.setsockopt(sockets.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            listener.setsockopt(sockets.IPPROTO_IP, _IP_FREEBIND, 1)
            listener.bind(address_info)
            _log.warning(log_events.ADDRESS_MISSING, address=address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_on_unix(path: Path, key: str) -> sockets.socket:
    _remove_stale_socket(path, key)
    listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        try:
            listener.bind(str(path))
        except OSError as error:
            if "too long" not in str(error):
                raise
            problem = "the socket's path is longer than 107 bytes, the limit of Linux"
            raise ConfigError([ConfigFault(key, problem, str(path))]) from error
        os.chmod(path, SOCKET_MODE)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale_socket(path: Path, key: str) -> None:
    """Remove the file of a Unix socket without a listener.

    Raises:
        ConfigError: It is another kind of file, or belongs to another user.
        OSError: It has a listener (EADDRINUSE).
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(
            [ConfigFault(key, "there is a file that is no socket: remove it", str(path))]
        )
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            pass
        except BlockingIOError:  # its queue is full: it has a listener
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        except PermissionError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    try:
        os.unlink(path)
    except PermissionError as error:
        problem = f"there is a socket of {user_name(status.st_uid)}: remove it"
        raise ConfigError([ConfigFault(key, problem, str(path))]) from error


def _remove_own_socket(path: str, identity: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)


def _bind_error(error: OSError | zmq.ZMQError, address: str, key: str) -> EdgeInspectError:
    reason = error.strerror or os.strerror(error.errno or 0)
    if error.errno == errno.EADDRINUSE:
        return AddressError(
            f"{address} cannot be bound: {reason}{process_holding(address)}",
            where=key,
            remedy="Is the line running already? Stop the other program, or choose another address",
        )
    if error.errno in _RETRYABLE_ERRNOS:
        return AddressError(
            f"{address} cannot be bound: {reason}", where=key, remedy="Is its network up?"
        )
    return ConfigError([ConfigFault(key, f"cannot be bound: {reason}", address)])


def process_holding(address: str) -> str:
    """Return `, by NAME (pid 12, user anna)` for the process that has an address, from /proc."""
    inode, uid = _listening_inode(address)
    if not inode:
        return ""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _has_open(process, f"socket:[{inode}]"):
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                return f", by {name} (pid {process.name}, {user_name(uid or 0)})"
    return "" if uid is None else f", by a process of {user_name(uid)}"


def _has_open(process: Path, target: str) -> bool:
    """Return whether a process has a file open; one that is closed meanwhile hides no other."""
    with contextlib.suppress(OSError):
        for handle in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):
                if os.readlink(process / "fd" / handle) == target:
                    return True
    return False


def _listening_inode(address: str) -> tuple[str, int | None]:
    """Return inode and user of the socket that listens at an address."""
    path = address.removeprefix("ipc://")
    with contextlib.suppress(OSError, ValueError, IndexError):
        if path != address:
            for line in Path("/proc/net/unix").read_text("utf-8", "replace").splitlines()[1:]:
                fields = line.split(maxsplit=7)
                if len(fields) == 8 and fields[7] == path:
                    return fields[6], os.lstat(path).st_uid
            return "", None
        port = f":{int(address.rpartition(':')[2]):04X}"
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(port) and fields[3] == "0A":  # listening
                    return fields[9], int(fields[7])
    return "", None
