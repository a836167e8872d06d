"""The client's end of the wire: subscribing to a line, and requests to it.

`Subscriber` receives what is published now. `VerdictFeed` delivers every verdict once and in
order, whatever the network or either process does, and reports verdicts that are lost for good.

    with find_line("strip").feed("gateway-1", cursor=stored) as feed:
        for event in feed:
            if isinstance(event, VerdictReceived):
                apply(event.verdict)
                feed.ack(event.verdict.seq)
"""

from edgeinspect.client.client_keys import ClientKeysConfig, client_keys_setup
from edgeinspect.client.feed import VerdictFeed
from edgeinspect.client.feed_events import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.client.line_config import LineConnectionConfig, check_line_connection
from edgeinspect.client.line_endpoint import LineEndpoint, find_line
from edgeinspect.client.line_verifier import LineVerifier, LineVerifiers
from edgeinspect.client.requests import CommandRequest, send_request
from edgeinspect.client.sockets import (
    ReceivedMessage,
    SocketSetup,
    check_address,
    connect_socket,
    no_encryption,
)
from edgeinspect.client.subscriber import Subscriber

__all__ = [
    # client keys
    "ClientKeysConfig",
    "client_keys_setup",
    # feed
    "VerdictFeed",
    # feed events
    "FeedEvent",
    "SequenceReset",
    "StatusReceived",
    "VerdictReceived",
    "VerdictsLost",
    # line config
    "LineConnectionConfig",
    "check_line_connection",
    # line endpoint
    "LineEndpoint",
    "find_line",
    # line verifier
    "LineVerifier",
    "LineVerifiers",
    # requests
    "CommandRequest",
    "send_request",
    # sockets
    "ReceivedMessage",
    "SocketSetup",
    "check_address",
    "connect_socket",
    "no_encryption",
    # subscriber
    "Subscriber",
]
