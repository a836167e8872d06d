"""One client's connection, by its descriptor: ZeroMQ itself has no call for it."""

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
    """A socket filter from (code, jt, jf, k), and the struct sock_fprog that points to it.

    Source: man 7 socket; linux/filter.h. It reads a TCP segment from its header on.
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
    """Have the kernel drop whatever comes for a TCP socket from now on."""
    connection.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL_FILTER)


def drop_resets(listener: sockets.socket) -> None:
    """Have the kernel drop TCP resets for a listening socket and all that it accepts.

    A reset would be seen by libzmq at once, even while it holds back what came before: then
    a PING among that ends the process (https://github.com/zeromq/libzmq/issues/4364). A peer
    that ends in order, or is not there any more (TCP's keepalive), is seen after what it sent.

    Some kernels let nobody but root filter: then resets are seen, and the rest is as it is.
    """
    with contextlib.suppress(OSError):
        listener.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_RESETS_FILTER)
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(sockets.IPPROTO_TCP, option, value)


def receive_queue_bytes(connection: int) -> int:
    """What has come and has not been read; 0 of what is no connection any more."""
    return _queue_bytes(connection, _FIONREAD)


def send_queue_bytes(connection: int) -> int:
    """What was sent and the peer has not taken; 0 of what is no connection any more."""
    return _queue_bytes(connection, _TIOCOUTQ)


def _queue_bytes(connection: int, what: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(connection, what, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def peer_origin(connection: int) -> str:
    """`user 1000` at the other end of a Unix socket, else its address; empty if it has gone."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family == sockets.AF_UNIX:
                peer = copy.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
                return f"user {_CREDENTIALS.unpack(peer)[1]}"
            return str(copy.getpeername()[0])
    except (OSError, IndexError):
        return ""


def drop_input(connection: int) -> bool:
    """Take nothing from a TCP connection any more, without ending it; False if that cannot be."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family not in (sockets.AF_INET, sockets.AF_INET6):
                return False
            drop_packets(copy)
    except OSError:
        return False
    return True


def disconnect(connection: int) -> None:
    """End a connection by its descriptor; ZeroMQ notices when it has read what it holds.

    Its input alone, where what comes can be dropped: a shutdown of both directions is to libzmq
    what a reset is, see `drop_resets`.
    """
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            how = sockets.SHUT_RD
            if copy.family in (sockets.AF_INET, sockets.AF_INET6):
                # TCP takes data after that too; who sends it faster than it is read would stay.
                how = sockets.SHUT_RD if drop_input(connection) else sockets.SHUT_RDWR
            if copy.family in (sockets.AF_UNIX, sockets.AF_INET, sockets.AF_INET6):
                copy.shutdown(how)
                # What the kernel holds can still be read after that, and would be.
                while copy.recv(1 << 16, sockets.MSG_DONTWAIT):
                    pass
    except OSError:  # closed since, and not a socket any more
        pass
