"""The wire: messages, requests, CURVE keys, and limits on clients."""

from edgeinspect.wire.admission import AdmissionControl
from edgeinspect.wire.curve_authenticator import (
    CurveAuthenticator,
    ServerSocketSetup,
    no_encryption,
)
from edgeinspect.wire.curve_keys import read_server_keys, use_client_keys
from edgeinspect.wire.listening_sockets import HANDSHAKE_MS, bind, process_holding
from edgeinspect.wire.messages import (
    HEARTBEAT_TOPIC,
    STATUS_TOPIC,
    VERDICT_TOPIC,
    Heartbeat,
    HeatMap,
    Mask,
    Status,
    VerdictCounts,
    WireMessage,
    decode_mask,
    decode_message,
    decode_verdict,
    encode_message,
    heartbeat_topic,
    part_topic,
    status_topic,
    verdict_topic,
)
from edgeinspect.wire.requests import (
    REQUEST_BYTES_MAX,
    Ack,
    ChallengeRequest,
    CommandResult,
    LineReply,
    NoLongerHeld,
    OperatorRequest,
    ReplayBusy,
    ReplayComplete,
    ReplayRequest,
    TriggerCount,
    TriggerRequest,
    decode_reply,
    decode_request,
    encode_body,
)
from edgeinspect.wire.slow_clients import ClientMonitors, SlowClientMonitor
from edgeinspect.wire.tcp_connections import disconnect
from edgeinspect.wire.unfinished_messages import UnfinishedMessageMonitor
from edgeinspect.wire.zap import Socket

__all__ = [
    # admission
    "AdmissionControl",
    # curve authenticator
    "CurveAuthenticator",
    "ServerSocketSetup",
    "no_encryption",
    # curve keys
    "read_server_keys",
    "use_client_keys",
    # listening sockets
    "HANDSHAKE_MS",
    "bind",
    "process_holding",
    # messages
    "HEARTBEAT_TOPIC",
    "STATUS_TOPIC",
    "VERDICT_TOPIC",
    "Heartbeat",
    "HeatMap",
    "Mask",
    "Status",
    "VerdictCounts",
    "WireMessage",
    "decode_mask",
    "decode_message",
    "decode_verdict",
    "encode_message",
    "heartbeat_topic",
    "part_topic",
    "status_topic",
    "verdict_topic",
    # requests
    "REQUEST_BYTES_MAX",
    "Ack",
    "ChallengeRequest",
    "CommandResult",
    "LineReply",
    "NoLongerHeld",
    "OperatorRequest",
    "ReplayBusy",
    "ReplayComplete",
    "ReplayRequest",
    "TriggerCount",
    "TriggerRequest",
    "decode_reply",
    "decode_request",
    "encode_body",
    # slow clients
    "ClientMonitors",
    "SlowClientMonitor",
    # tcp connections
    "disconnect",
    # unfinished messages
    "UnfinishedMessageMonitor",
    # zap
    "Socket",
]
