"""Requests of a client's DEALER to the line's ROUTER, and the replies.

Every request for verdicts gets a reply; verdicts that are no longer held are named in it.
Source: docs/reference/wire.md
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edgeinspect.domain import Count, Int64, UtcNs
from edgeinspect.system import Decoder, json_decoder

REQUEST_BYTES_MAX = 4096
"""A longer request is dropped by the socket itself."""

Seq = Annotated[int, Meta(ge=0, le=1 << 62)]
ShortText = Annotated[str, Meta(min_length=1, max_length=64)]


class ReplayRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.replay/1"
):
    """Requests the verdicts from `from_seq` on."""

    from_seq: Seq
    limit: Annotated[int, Meta(ge=1, le=4096)] = 256


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.ack/1"):
    """Reports that a subscriber has applied everything up to `seq`. Without a reply."""

    name: ShortText
    seq: Seq


class TriggerRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.trigger/1"
):
    """Requests one frame from a camera in trigger mode."""

    camera: ShortText
    part_id: ShortText | None = None
    encoder_count: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)] | None = None
    simulated: bool = False
    """True for a challenge part."""
    expires_monotonic_ns: Int64 | None = None
    """No frame is captured from this instant on: CLOCK_MONOTONIC of the PC and boot that
    `boot_id` names. Used if that is the line's own; no step of the wall clock affects it."""
    boot_id: ShortText | None = None
    """The monotonic clock's origin: `/proc/sys/kernel/random/boot_id`, a slash, and the number
    of the time namespace (`/proc/self/ns/time`)."""
    expires_utc_ns: UtcNs | None = None
    """The same instant as wall time, for a line on another PC."""


class TriggerCount(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.trigger_count/1"
):
    """Reports how often the PLC triggered a camera by wire, to be compared with its frames.
    Without a reply: a difference raises an alarm. A lower count restarts the comparison.
    """

    camera: ShortText
    count: Annotated[int, Meta(ge=0, lt=1 << 32)]
    """Any count that increases by one at each trigger."""
    modulo: Annotated[int, Meta(ge=4096, le=1 << 32)] = 1 << 16
    """The count wraps to 0 at this value."""
    within_ms: Annotated[float, Meta(ge=1, le=10_000)] = 500
    """The PLC reached this count at most this long before, or after, it was read."""
    read_at_utc_ns: UtcNs | None = None
    """When it was read from the PLC; if absent, when it is received."""


class ChallengeRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.challenge/1"
):
    """Requests the inspection of a known-bad image of the line's challenge folder."""

    picture: Annotated[str, Meta(min_length=1, max_length=1024)]
    r"""File name in `capture.challenge_folder`, or its full path; non-UTF-8 bytes as `\xE4`."""
    camera: ShortText | None = None
    """The first camera when absent."""


class OperatorRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.operator/1"
):
    """Requests an entry in the line's ledger: an action of a person on the line."""

    actor: ShortText
    """The person, as the sender identifies them."""
    action: ShortText
    """The action in one word: `acknowledge`, `challenge`, `promote`."""
    detail: Annotated[str, Meta(max_length=500)] = ""
    """Its object and reason."""


LineRequest = (
    ReplayRequest | Ack | TriggerRequest | TriggerCount | ChallengeRequest | OperatorRequest
)


class ReplayComplete(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.replayed/1"
):
    """Ends the reply to a replay request, after its verdicts."""

    epoch: Count
    from_seq: Count
    to_seq: Int64
    """Last verdict that was sent; `from_seq - 1` if none."""
    last_seq: Count
    """Last verdict of the line."""


class NoLongerHeld(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.gone/1"
):
    """Some requested verdicts are no longer held: treat every such part as a reject."""

    epoch: Count
    from_seq: Count
    oldest_seq: Count
    """The first verdict that is still held; request again from here."""


class ReplayBusy(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.busy/1"
):
    """Refuses a replay request for now: an earlier one of the same client is not complete, or
    too many clients are being replayed to. Request again after 200 ms.
    """

    epoch: Int64
    from_seq: Int64
    """First requested seq."""


class CommandResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.triggered/1"
):
    """Reply to a trigger, a challenge or an operator entry."""

    accepted: bool
    problem: str = ""
    seq: Int64 | None = None
    """Seq of the triggered frame's verdict; null for other requests, and if the camera has not
    delivered within 400 ms (its frame gets a verdict anyway)."""


LineReply = ReplayComplete | NoLongerHeld | ReplayBusy | CommandResult

encode_body = msgspec.json.Encoder().encode
_request_decoder: Decoder[LineRequest] = json_decoder(LineRequest)
_reply_decoder: Decoder[LineReply] = json_decoder(LineReply)


def decode_request(body: bytes) -> LineRequest:
    """Decode a request; raises msgspec.DecodeError for anything else."""
    return _request_decoder(body)


def decode_reply(body: bytes) -> LineReply:
    """Decode a reply; raises msgspec.DecodeError for anything else."""
    return _reply_decoder(body)
