"""The replay dialogue: what a DEALER may ask the ROUTER and what it is answered.

Every request gets an answer; what is no longer held is said to be gone, never left out.
Source: docs/wire.md
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
    """Asks for the verdicts from `from_seq` on."""

    from_seq: Seq
    limit: Annotated[int, Meta(ge=1, le=4096)] = 256


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.ack/1"):
    """Says that a subscriber has applied everything up to `seq`. Not answered."""

    name: ShortText
    seq: Seq


class TriggerRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.trigger/1"
):
    """Asks a camera in trigger mode for one frame."""

    camera: ShortText
    part_id: ShortText | None = None
    encoder_count: Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)] | None = None
    simulated: bool = False
    """True for a challenge part."""
    expires_monotonic_ns: Int64 | None = None
    """No frame is taken from this instant on: CLOCK_MONOTONIC of the PC and start that
    `boot_id` names. Counts where that is the line's own, and no step of a clock moves it."""
    boot_id: ShortText | None = None
    """Whose monotonic clock it is: `/proc/sys/kernel/random/boot_id`, a slash, and the number
    of the time namespace (`/proc/self/ns/time`)."""
    expires_utc_ns: UtcNs | None = None
    """The same instant as wall time, for a line on another PC."""


class TriggerCount(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.trigger_count/1"
):
    """Says how often the PLC triggered a camera by wire, to be compared with its frames. Not
    answered: a difference is an alarm. A step back begins the comparison anew.
    """

    camera: ShortText
    count: Annotated[int, Meta(ge=0, lt=1 << 32)]
    """Any count that goes up by one at each trigger."""
    modulo: Annotated[int, Meta(ge=4096, le=1 << 32)] = 1 << 16
    """It wraps to 0 here."""
    within_ms: Annotated[float, Meta(ge=1, le=10_000)] = 500
    """The PLC had counted so much at most so long before, or after, it was read."""
    read_at_utc_ns: UtcNs | None = None
    """When it was read from the PLC; when it is heard, if absent."""


class ChallengeRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.challenge/1"
):
    """Asks for a known-bad picture of the line's challenge folder to be judged."""

    picture: Annotated[str, Meta(min_length=1, max_length=1024)]
    r"""File name in `capture.challenge_folder`, or its whole path; what is no UTF-8 as `\xE4`."""
    camera: ShortText | None = None
    """The first camera when absent."""


class OperatorRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.operator/1"
):
    """Asks for an entry in the line's ledger: what a person does to the line, and who."""

    actor: ShortText
    """Who, as the sender knows it."""
    action: ShortText
    """What, in a word: `acknowledge`, `challenge`, `promote`."""
    detail: Annotated[str, Meta(max_length=500)] = ""
    """To what, and why."""


LineRequest = (
    ReplayRequest | Ack | TriggerRequest | TriggerCount | ChallengeRequest | OperatorRequest
)


class ReplayComplete(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.replayed/1"
):
    """Ends the answer to a replay request, after its verdicts."""

    epoch: Count
    from_seq: Count
    to_seq: Int64
    """Last verdict that was sent; `from_seq - 1` if none."""
    last_seq: Count
    """Last verdict that there is."""


class NoLongerHeld(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.gone/1"
):
    """Some of what was asked for is no longer held: treat every such part as a reject."""

    epoch: Count
    from_seq: Count
    oldest_seq: Count
    """The first verdict that is still held; ask again from here."""


class ReplayBusy(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.busy/1"
):
    """Answers a replay request that is not taken now: an earlier one of the same client is not
    done, or too many clients are given something again. Ask again after 200 ms.
    """

    epoch: Int64
    from_seq: Int64
    """First seq asked for."""


class CommandResult(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.triggered/1"
):
    """Answers a trigger or challenge request."""

    accepted: bool
    problem: str = ""
    seq: Int64 | None = None
    """The verdict that will judge the triggered frame; null for anything else, and if the
    camera has not answered within 400 ms (its frame gets a verdict all the same)."""


LineReply = ReplayComplete | NoLongerHeld | ReplayBusy | CommandResult

encode_body = msgspec.json.Encoder().encode
_request_decoder: Decoder[LineRequest] = json_decoder(LineRequest)
_reply_decoder: Decoder[LineReply] = json_decoder(LineReply)


def decode_request(body: bytes) -> LineRequest:
    """A request; raises msgspec.DecodeError for anything else."""
    return _request_decoder(body)


def decode_reply(body: bytes) -> LineReply:
    """An answer; raises msgspec.DecodeError for anything else."""
    return _reply_decoder(body)
