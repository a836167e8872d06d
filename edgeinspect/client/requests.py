"""One order to a line over its replay address."""

from __future__ import annotations

import msgspec
import zmq

from edgeinspect.client.sockets import Socket, SocketSetup, connect_socket, no_encryption
from edgeinspect.errors import DeviceLostError
from edgeinspect.wire import (
    ChallengeRequest,
    CommandResult,
    OperatorRequest,
    TriggerRequest,
    decode_reply,
    encode_body,
)


def send_request(
    address: str,
    request: TriggerRequest | ChallengeRequest | OperatorRequest,
    *,
    setup_socket: SocketSetup = no_encryption,
    timeout_ms: int = 2_000,
) -> CommandResult:
    """Send one trigger, challenge or entry for the ledger and wait for the line's word.

    Raises:
        DeviceLostError: Nobody answers at that address.
    """
    context: zmq.Context[Socket] = zmq.Context()
    try:
        socket = connect_socket(context, zmq.DEALER, address, setup_socket, immediate=True)
        socket.sndtimeo = timeout_ms  # the send waits for a connection
        if _send(socket, encode_body(request)) and socket.poll(timeout_ms):
            try:
                answer = decode_reply(socket.recv_multipart()[-1])
            except msgspec.DecodeError:
                answer = None
            if isinstance(answer, CommandResult):
                return answer
    finally:
        context.destroy(0)
    raise DeviceLostError(
        f"no answer within {timeout_ms} ms", where=address, remedy="Is the line running?"
    )


def _send(socket: Socket, body: bytes) -> bool:
    try:
        socket.send(body)
    except zmq.Again:
        return False
    return True
