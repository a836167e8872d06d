"""One order to a line over its replay address."""

from __future__ import annotations

import msgspec
import zmq

from edgeinspect.client.sockets import Prepare, Socket, connect, plain
from edgeinspect.errors import DeviceLostError
from edgeinspect.wire.requests import (
    ChallengeRequest,
    OperatorRequest,
    Triggered,
    TriggerRequest,
    decode_answer,
    encode,
)


def order(
    address: str,
    request: TriggerRequest | ChallengeRequest | OperatorRequest,
    *,
    prepare: Prepare = plain,
    timeout_ms: int = 2_000,
) -> Triggered:
    """Send one trigger, challenge or entry for the ledger and wait for the line's word.

    Raises:
        DeviceLostError: Nobody answers at that address.
    """
    context: zmq.Context[Socket] = zmq.Context()
    try:
        socket = connect(context, zmq.DEALER, address, prepare, immediate=True)
        socket.sndtimeo = timeout_ms  # the send waits for a connection
        if _sent(socket, encode(request)) and socket.poll(timeout_ms):
            try:
                answer = decode_answer(socket.recv_multipart()[-1])
            except msgspec.DecodeError:
                answer = None
            if isinstance(answer, Triggered):
                return answer
    finally:
        context.destroy(0)
    raise DeviceLostError(
        f"no answer within {timeout_ms} ms", where=address, remedy="Is the line running?"
    )


def _sent(socket: Socket, body: bytes) -> bool:
    try:
        socket.send(body)
    except zmq.Again:
        return False
    return True
