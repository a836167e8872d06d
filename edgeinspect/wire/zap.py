"""ZAP, by which libzmq requests before the end of a handshake whether to accept the client.

It does so for every client of a context with a `ZapHandler`, also without CURVE, and reads nothing
from the client before the reply. Source: RFC 27, rfc.zeromq.org/spec/27
"""

from __future__ import annotations

from dataclasses import dataclass

import zmq
from zmq.utils import z85

Socket = zmq.Socket[bytes]
ZAP_DOMAIN = "edgeinspect"
ZAP_ACCEPT = b"200"
ZAP_RETRY_LATER = b"300"
"""The client is not notified: its handshake times out, and it retries by itself."""
ZAP_REJECT = b"400"
_ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """A client whose handshake waits for a reply."""

    envelope: tuple[bytes, bytes]
    """Routing identity and request id of the reply."""
    origin: str
    """`user 1000` for a client of a Unix socket, else its address."""
    key: str
    """Its CURVE key; empty without."""
    received_at_ns: int


class ZapHandler:
    """The ZAP handler of one context; to be created before the context's socket is bound."""

    def __init__(self, context: zmq.Context[Socket], socket: Socket) -> None:
        """Have libzmq request the acceptance of each client of a socket."""
        self.socket = context.socket(zmq.ROUTER)
        """For polling: readable if `next_request` returns one."""
        self.socket.linger = 0
        self.socket.rcvhwm = self.socket.sndhwm = 0  # libzmq's own thread must never block
        try:
            self.socket.bind(_ADDRESS)
        except zmq.ZMQError:  # another socket of this context has a handler
            self.socket.close(0)
            raise
        socket.zap_domain = ZAP_DOMAIN.encode()
        # Without this, libzmq accepts every client if there is no handler.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def next_request(self, now_ns: int) -> HandshakeRequest | None:
        """Return the next waiting client; None if there is none."""
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        # identity, "", version, request, domain, address, routing id, mechanism, credentials
        key = z85.encode(frames[8]).decode() if len(frames) > 8 and len(frames[8]) == 32 else ""
        address = frames[5].decode("ascii", "replace")
        return HandshakeRequest((frames[0], frames[3]), client_origin(address), key, now_ns)

    def reply(self, handshake: HandshakeRequest, code: bytes) -> None:
        """Accept or reject a client; harmless if it is gone."""
        identity, request = handshake.envelope
        user = handshake.key.encode() if code == ZAP_ACCEPT else b""
        self.socket.send_multipart([identity, b"", _VERSION, request, code, b"", user, b""])

    def close(self) -> None:
        """Stop replying."""
        self.socket.close(0)


def client_origin(address: str) -> str:
    """Return the origin of a client by its ZAP address, `host:uid:gid:pid` for a Unix socket."""
    host, *numbers = address.rsplit(":", 3)
    is_user = len(numbers) == 3 and ":" not in host and all(map(str.isdigit, numbers))
    return f"user {numbers[0]}" if is_user else address  # an IPv6 address has more colons
