"""Binding a line's sockets: what the system has, what it says, and who is in the way.

The listening sockets are made here and handed to ZeroMQ (ZMQ_USE_FD): then the file of a
Unix socket has a mode, a dead daemon's file goes and a living one's stays, and an address
that the PC does not have yet is bound all the same (IP_FREEBIND).
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

Socket = zmq.Socket[bytes]
_SocketAddress = tuple[Any, ...]
"""What `socket.bind` takes; of IPv6 with the scope."""
_PAUSED_SUFFIX = ".shut"
"""Behind the name of a Unix socket's file while nobody is let in."""
SOCKET_MODE = 0o660
"""Of a Unix socket's file: the group of its folder may connect."""
_TCP = re.compile(r"tcp://(\[[^\]]+\]|[^:/\[\]]+):(\d{1,5}|\*)")
_BIND_ATTEMPTS = 10
_RETRY_INTERVAL_S = 0.05
"""A predecessor that was killed this moment still has its sockets."""
_BACKLOG = 16
"""More at once try again after a second: what comes in between two looks is bounded."""
HANDSHAKE_MS = 5_000
"""Who has connected and not said what it is for so long is let go."""
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
    """The door of a bound socket. Thread-safe."""

    def __init__(
        self,
        address: str,
        listener: sockets.socket | None = None,
        file: tuple[str, tuple[int, int]] | None = None,
    ) -> None:
        self.address = address
        self._listener = listener
        """Of TCP, beside ZeroMQ's own descriptor of it."""
        self._file = file
        """Of a Unix socket: its path, and which file it is."""

    def pause_accepting(self) -> None:
        """Let nobody in from now on; who is in stays in, and newcomers try again."""
        with contextlib.suppress(OSError):
            if self._listener is not None:
                drop_packets(self._listener)
            elif self._file is not None:
                os.rename(self._file[0], self._file[0] + _PAUSED_SUFFIX)

    def resume_accepting(self) -> None:
        """Let newcomers in again."""
        with contextlib.suppress(OSError):
            if self._listener is not None:
                drop_resets(self._listener)
            elif self._file is not None:
                os.rename(self._file[0] + _PAUSED_SUFFIX, self._file[0])

    def release(self) -> None:
        """Let go of the address, and remove the socket's file, when the socket is closed."""
        if self._listener is not None:
            self._listener.close()
        if self._file is not None:
            path, made = self._file
            _remove_own_socket(path, made)
            _remove_own_socket(path + _PAUSED_SUFFIX, made)


def bind(socket: Socket, address: str, key: str, *, receive_bytes: int = 0) -> BoundEndpoint:
    """Bind a ZeroMQ socket.

    Args:
        socket: Prepared, not bound.
        address: As in the configuration.
        key: The address's own, for messages.
        receive_bytes: What the kernel may hold of a TCP client that has not been read; as
            much as it likes when 0.

    Returns:
        Its door; release it when the socket is closed.

    Raises:
        AddressError: It is in use, or not there yet.
        ConfigError: It can never be bound.
    """
    for left in reversed(range(_BIND_ATTEMPTS)):
        try:
            return _bind(socket, address, key, receive_bytes)
        except (OSError, zmq.ZMQError) as error:
            if error.errno == errno.EADDRINUSE and left:
                time.sleep(_RETRY_INTERVAL_S)
                continue
            raise _bind_error(error, address, key) from error
    raise AssertionError


def _bind(socket: Socket, address: str, key: str, receive_bytes: int) -> BoundEndpoint:
    path = address.removeprefix("ipc://")
    match = _TCP.fullmatch(address)
    if path != address and not path.startswith("@"):
        listener = _listen_on_unix(Path(path), key)
        made = os.lstat(path)
        _bind_descriptor(socket, listener, address)
        return BoundEndpoint(address, file=(path, (made.st_dev, made.st_ino)))
    place = _resolve(match[1], match[2]) if match else None
    if place is None:  # inproc, an abstract name, or what nobody can resolve
        socket.bind(address)
        return BoundEndpoint(address)
    listener = _listen_on_tcp(*place, address, receive_bytes)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    socket.ipv6 = ":" in host
    door = listener.dup()
    try:
        _bind_descriptor(socket, listener, f"tcp://{shown}:{port}")
    except BaseException:
        door.close()
        raise
    return BoundEndpoint(address, listener=door)


def _bind_descriptor(socket: Socket, listener: sockets.socket, address: str) -> None:
    with listener:
        listener.setblocking(False)
        socket.setsockopt(zmq.USE_FD, listener.fileno())
        socket.ipv6 = "[" in address  # libzmq reads addresses of IPv4 alone unless it is told
        socket.bind(address)
        listener.detach()  # ZeroMQ closes it


def _resolve(host: str, port: str) -> tuple[sockets.AddressFamily, _SocketAddress] | None:
    """Family and address of a TCP host or network interface; None if it is neither."""
    number = 0 if port == "*" else int(port)
    if host == "*":
        return sockets.AF_INET, ("0.0.0.0", number)
    with contextlib.suppress(OSError, UnicodeError):
        found = sockets.getaddrinfo(host.strip("[]"), None, flags=sockets.AI_NUMERICHOST)
        family, (name, _port, *scope) = found[0][0], found[0][4]
        return family, (name, number, *scope)
    with contextlib.suppress(OSError), sockets.socket() as any_socket:
        interface = host.encode()
        if len(interface) > _NAME_BYTES_MAX:
            return None
        request = fcntl.ioctl(any_socket, _SIOCGIFADDR, interface.ljust(_IFREQ_BYTES, b"\0"))
        return sockets.AF_INET, (sockets.inet_ntoa(request[20:24]), number)
    return None


def _listen_on_tcp(
    family: sockets.AddressFamily, place: _SocketAddress, address: str, receive_bytes: int
) -> sockets.socket:
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    try:
        listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
        if receive_bytes:  # whoever is accepted has the same
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, receive_bytes)
        drop_resets(listener)
        try:
            listener.bind(place)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            if family == sockets.AF_INET6:
                listener.setsockopt(sockets.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
            listener.setsockopt(sockets.IPPROTO_IP, _IP_FREEBIND, 1)
            listener.bind(place)
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
            problem = "the socket's path is longer than 107 bytes, Linux's limit"
            raise ConfigError([ConfigFault(key, problem, str(path))]) from error
        os.chmod(path, SOCKET_MODE)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale_socket(path: Path, key: str) -> None:
    """Remove the file of a socket at which nobody listens any more.

    Raises:
        ConfigError: Something else lies there, or it is somebody else's.
        OSError: Somebody listens there (EADDRINUSE).
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            [ConfigFault(key, "there is a file that is no socket: remove it", str(path))]
        )
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            pass
        except BlockingIOError:  # its queue is full: somebody lives there
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        except PermissionError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    try:
        os.unlink(path)
    except PermissionError as error:
        problem = f"there is a socket of {user_name(found.st_uid)}: remove it"
        raise ConfigError([ConfigFault(key, problem, str(path))]) from error


def _remove_own_socket(path: str, made: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == made:
            os.unlink(path)


def _bind_error(error: OSError | zmq.ZMQError, address: str, key: str) -> EdgeInspectError:
    words = error.strerror or os.strerror(error.errno or 0)
    if error.errno == errno.EADDRINUSE:
        return AddressError(
            f"{address} cannot be bound: {words}{process_holding(address)}",
            where=key,
            remedy="Is the line running already? Stop the other program, or choose another address",
        )
    if error.errno in _RETRYABLE_ERRNOS:
        return AddressError(
            f"{address} cannot be bound: {words}", where=key, remedy="Is its network up?"
        )
    return ConfigError([ConfigFault(key, f"cannot be bound: {words}", address)])


def process_holding(address: str) -> str:
    """`, by NAME (pid 12, user anna)` for who has an address, as far as /proc tells."""
    inode, uid = _listening_inode(address)
    if not inode:
        return ""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for handle in os.listdir(process / "fd"):
                if os.readlink(process / "fd" / handle) == wanted:
                    name = (process / "comm").read_text("utf-8", "replace").strip()
                    return f", by {name} (pid {process.name}, {user_name(uid or 0)})"
    return "" if uid is None else f", by a process of {user_name(uid)}"


def _listening_inode(address: str) -> tuple[str, int | None]:
    """Inode and user of the socket that listens at an address."""
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
                if fields[1].endswith(port) and fields[3] == "0A":  # it listens
                    return fields[9], int(fields[7])
    return "", None
