"""Sends one request to a line's ROUTER."""

from __future__ import annotations

import msgspec
import zmq

from edgeinspect.client.sockets import SocketSetup, connect_socket, no_encryption
from edgeinspect.errors import DeviceLostError
from edgeinspect.wire import (
    ChallengeRequest,
    CommandResult,
    OperatorRequest,
    Socket,
    TriggerRequest,
    decode_reply,
    encode_body,
)

CommandRequest = TriggerRequest | ChallengeRequest | OperatorRequest
"""A request that the line answers with a `CommandResult`."""


def send_request(
    address: str,
    request: CommandRequest,
    *,
    setup_socket: SocketSetup = no_encryption,
    timeout_ms: int = 2_000,
) -> CommandResult:
    """Send one trigger, challenge or operator entry and wait for the line's reply.

    Raises:
        DeviceLostError: There is no reply from that address.
    """
    context: zmq.Context[Socket] = zmq.Context()
    try:
        socket = connect_socket(context, zmq.DEALER, address, setup_socket, immediate=True)
        socket.sndtimeo = timeout_ms  # the send waits for a connection
        if _send(socket, encode_body(request)) and socket.poll(timeout_ms):
            try:
                reply = decode_reply(socket.recv_multipart()[-1])
            except msgspec.DecodeError:
                reply = None
            if isinstance(reply, CommandResult):
                return reply
    finally:
        context.destroy(0)
    raise DeviceLostError(
        f"no reply within {timeout_ms} ms", where=address, remedy="Is the line running?"
    )


def _send(socket: Socket, body: bytes) -> bool:
    try:
        socket.send(body)
    except zmq.Again:
        return False
    return True
