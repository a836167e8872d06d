"""Operations on one client's connection by its descriptor, for which ZeroMQ has no call."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket as sockets
import struct
import sys

_SO_ATTACH_FILTER = 26
_TCP_FLAGS_AT = 13
_RST = 0x04


def _socket_filter(
    *instructions: tuple[int, int, int, int],
) -> tuple[ctypes.Array[ctypes.c_char], bytes]:
    """Return a socket filter from (code, jt, jf, k), and the struct sock_fprog that points to it.

    Source: man 7 socket; linux/filter.h. It is applied to a TCP segment with header.
    """
    words = ctypes.create_string_buffer(
        b"".join(struct.pack("HBBI", *each) for each in instructions)
    )
    return words, struct.pack("HP", len(instructions), ctypes.addressof(words))


_DROP_ALL_CODE, _DROP_ALL_FILTER = _socket_filter((0x06, 0, 0, 0))
_DROP_RESETS_CODE, _DROP_RESETS_FILTER = _socket_filter(
    (0x30, 0, 0, _TCP_FLAGS_AT),  # load the byte
    (0x45, 0, 1, _RST),  # is the bit set?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
)
_KEEPALIVE = ((sockets.TCP_KEEPIDLE, 10), (sockets.TCP_KEEPINTVL, 5), (sockets.TCP_KEEPCNT, 3))
"""Seconds of silence, seconds between probes, and probes: gone after 25 s."""
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_FIONREAD = 0x541B
_TIOCOUTQ = 0x5411


def drop_packets(connection: sockets.socket) -> None:
    """Have the kernel drop everything that arrives for a TCP socket from now on."""
    connection.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL_FILTER)


def drop_resets(listener: sockets.socket) -> None:
    """Have the kernel drop TCP resets for a listening socket and all that it accepts.

    libzmq would process a reset at once, before input that it has not read yet: then a PING in
    that input ends the process (https://github.com/zeromq/libzmq/issues/4364). A peer that
    closes in order, or vanishes (TCP keepalive), is processed after its input.

    Some kernels allow filters only to root: then resets are not dropped.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_RESETS_FILTER)
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(sockets.IPPROTO_TCP, option, value)


def receive_queue_bytes(connection: int) -> int:
    """Return the number of received bytes that are unread; 0 for a closed connection."""
    return _queue_bytes(connection, _FIONREAD)


def send_queue_bytes(connection: int) -> int:
    """Return the number of sent bytes that are unacknowledged; 0 for a closed connection."""
    return _queue_bytes(connection, _TIOCOUTQ)


def _queue_bytes(connection: int, request: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(connection, request, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def peer_origin(connection: int) -> str:
    """Return `user 1000` for the peer of a Unix socket, else its address; empty if it is gone."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family == sockets.AF_UNIX:
                peer = copy.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
                return f"user {_CREDENTIALS.unpack(peer)[1]}"
            return str(copy.getpeername()[0])
    except (OSError, IndexError):
        return ""


def drop_input(connection: int) -> bool:
    """Drop all further input of a TCP connection without ending it; False if not possible."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family not in (sockets.AF_INET, sockets.AF_INET6):
                return False
            drop_packets(copy)
    except OSError:
        return False
    return True


def disconnect(connection: int) -> None:
    """End a connection by its descriptor; ZeroMQ notices when it has read all input.

    Only the input is shut down, if it can be dropped: to libzmq a shutdown of both directions is
    like a reset, see `drop_resets`.
    """
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            how = sockets.SHUT_RD
            if copy.family in (sockets.AF_INET, sockets.AF_INET6):
                # TCP accepts data after that; a client that sends fast enough would stay.
                how = sockets.SHUT_RD if drop_input(connection) else sockets.SHUT_RDWR
            if copy.family in (sockets.AF_UNIX, sockets.AF_INET, sockets.AF_INET6):
                copy.shutdown(how)
                # Discard what the kernel has received, or ZeroMQ would read it.
                while copy.recv(1 << 16, sockets.MSG_DONTWAIT):
                    pass
    except OSError:  # closed meanwhile
        pass
