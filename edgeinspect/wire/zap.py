"""Before a handshake ends libzmq asks here whether the client is let in (ZAP).

It asks for every client of a context that has a `ZapHandler`, also without CURVE; until it is
answered, nothing that the client sends is accepted. Source: RFC 27, rfc.zeromq.org/spec/27
"""

from __future__ import annotations

from dataclasses import dataclass

import zmq
from zmq.utils import z85

Socket = zmq.Socket[bytes]
ZAP_DOMAIN = "edgeinspect"
ZAP_ACCEPT = b"200"
ZAP_RETRY_LATER = b"300"
"""Without a word of refusal: its handshake's time ends, and it tries again by itself."""
ZAP_REJECT = b"400"
_ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """A client whose handshake waits for an answer."""

    envelope: tuple[bytes, bytes]
    """Whom to answer, and which question."""
    origin: str
    """`user 1000` of a Unix socket's client, else the address that it comes from."""
    key: str
    """Its CURVE key; empty without."""
    received_at_ns: int


class ZapHandler:
    """The one who answers, of one context. Made before the context's socket is bound."""

    def __init__(self, context: zmq.Context[Socket], socket: Socket) -> None:
        """Have libzmq ask about each client of a socket."""
        self.socket = context.socket(zmq.ROUTER)
        """To poll; ready when there is somebody to `take`."""
        self.socket.linger = 0
        self.socket.rcvhwm = self.socket.sndhwm = 0  # libzmq's own thread must never wait here
        try:
            self.socket.bind(_ADDRESS)
        except zmq.ZMQError:  # another socket of this context has one
            self.socket.close(0)
            raise
        socket.zap_domain = ZAP_DOMAIN.encode()
        # Without this, libzmq lets everybody in when nobody answers.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def next_request(self, now_ns: int) -> HandshakeRequest | None:
        """The next client that waits; None if there is none."""
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        # identity, "", version, request, domain, address, routing id, mechanism, credentials
        key = z85.encode(frames[8]).decode() if len(frames) > 8 and len(frames[8]) == 32 else ""
        address = frames[5].decode("ascii", "replace")
        return HandshakeRequest((frames[0], frames[3]), client_origin(address), key, now_ns)

    def reply(self, newcomer: HandshakeRequest, code: bytes) -> None:
        """Let a client in or not; harmless if it has gone."""
        identity, request = newcomer.envelope
        user = newcomer.key.encode() if code == ZAP_ACCEPT else b""
        self.socket.send_multipart([identity, b"", _VERSION, request, code, b"", user, b""])

    def close(self) -> None:
        """Answer nobody any more."""
        self.socket.close(0)


def client_origin(address: str) -> str:
    """Where a client comes from, of what ZAP says: `host:uid:gid:pid` for a Unix socket's."""
    host, *numbers = address.rsplit(":", 3)
    is_user = len(numbers) == 3 and ":" not in host and all(map(str.isdigit, numbers))
    return f"user {numbers[0]}" if is_user else address  # an address of IPv6 has more colons
