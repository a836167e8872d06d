"""One client's connection, by its descriptor: ZeroMQ itself has no call for it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket as sockets
import struct
import sys

_SO_ATTACH_FILTER = 26
# A filter of one instruction, "return 0": no packet gets to the socket.
# Source: man 7 socket; linux/filter.h, struct sock_fprog
_RETURN_0 = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_RETURN_0))
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_FIONREAD = 0x541B
_TIOCOUTQ = 0x5411


def drop_packets(connection: sockets.socket) -> None:
    """Have the kernel drop whatever comes for a TCP socket from now on."""
    connection.setsockopt(sockets.SOL_SOCKET, _SO_ATTACH_FILTER, DROP_ALL)


def unread_bytes(connection: int) -> int:
    """What has come and has not been read; 0 of what is no connection any more."""
    return _asked(connection, _FIONREAD)


def untaken_bytes(connection: int) -> int:
    """What was sent and the peer has not taken; 0 of what is no connection any more."""
    return _asked(connection, _TIOCOUTQ)


def _asked(connection: int, what: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(connection, what, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def origin_of(connection: int) -> str:
    """`user 1000` at the other end of a Unix socket, else its address; empty if it has gone."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family == sockets.AF_UNIX:
                peer = copy.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
                return f"user {_CREDENTIALS.unpack(peer)[1]}"
            return str(copy.getpeername()[0])
    except (OSError, IndexError):
        return ""


def silence(connection: int) -> bool:
    """Take nothing from a TCP connection any more, without ending it; False if it is none."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family not in (sockets.AF_INET, sockets.AF_INET6):
                return False
            drop_packets(copy)
    except OSError:
        return False
    return True


def hang_up(connection: int) -> None:
    """End a connection by its descriptor; ZeroMQ notices as if the peer had."""
    try:
        with sockets.socket(fileno=os.dup(connection)) as copy:
            if copy.family in (sockets.AF_UNIX, sockets.AF_INET, sockets.AF_INET6):
                copy.shutdown(sockets.SHUT_RDWR)
                # What a Unix socket holds can still be read after that, and would be.
                while copy.recv(1 << 16, sockets.MSG_DONTWAIT):
                    pass
    except OSError:  # closed since, and not a socket any more
        pass
