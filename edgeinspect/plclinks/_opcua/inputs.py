"""The inputs that clients write: checked before they are stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from asyncua import ua

from edgeinspect.domain import Clock, PlcCommands, has_control_characters
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._input_age import AckTracker, PeerActivity, PollTimes
from edgeinspect.plclinks._named_inputs import NamedInputs

TEXT_BYTES_MAX = 255
_VARIANT_TYPES = {
    "bits": ua.VariantType.UInt16,
    "uint16": ua.VariantType.UInt16,
    "uint32": ua.VariantType.UInt32,
    "int32": ua.VariantType.Int32,
    "text": ua.VariantType.String,
}
TAG_TYPES = {
    tag.name: _VARIANT_TYPES[tag.type]
    for tag in (*_register_map.OUTPUT_TAGS, *_register_map.INPUT_TAGS)
}
"""Types of the map's tags; bits are not in here and are Boolean."""


def initial_values() -> dict[str, _register_map.TagValue]:
    """Return the value of every input before it is written."""
    block = bytes(2 * _register_map.INPUT_WORDS)
    named = _register_codec.decode_inputs(block)
    return {name: value for name, value in named.items() if name != "Command"}


class OpcUaInputs:
    """The values of the inputs. For the server's event loop."""

    def __init__(self, clock: Clock) -> None:
        self.poll_times = PollTimes(clock.now_ns())
        """The iterations of the loop that writes images."""
        self.visible_revision = -1
        """Revision of the newest image that clients can have read."""
        self._clock = clock
        self._named = NamedInputs()
        self._acks = AckTracker()
        self._ack_after = -1

    def check_write(self, name: str, write: Any) -> int | None:
        """Return the status code that rejects a WriteValue to an input; None if it is valid.

        Source: OPC UA Part 4, 5.11.4: the results of Write
        """
        value = write.Value
        if write.IndexRange:
            return int(ua.StatusCodes.BadIndexRangeInvalid)
        if value is None:
            return int(ua.StatusCodes.BadTypeMismatch)
        if value.StatusCode is not None and value.StatusCode.value != ua.StatusCodes.Good:
            return int(ua.StatusCodes.BadWriteNotSupported)  # a value with another status
        variant = value.Value
        kind = TAG_TYPES.get(name, ua.VariantType.Boolean)
        if variant is None or variant.VariantType != kind:
            return int(ua.StatusCodes.BadTypeMismatch)
        if variant.is_array or variant.Dimensions or isinstance(variant.Value, (list, tuple)):
            return int(ua.StatusCodes.BadTypeMismatch)
        if kind is ua.VariantType.String:
            return _check_text(variant.Value)
        wanted = bool if kind is ua.VariantType.Boolean else int
        if type(variant.Value) is not wanted:
            return int(ua.StatusCodes.BadTypeMismatch)
        return None

    def record_activity(self, peer: PeerActivity) -> None:
        """Record a message of a session."""
        now_ns = self._clock.now_ns()
        peer.record_message(now_ns, self.poll_times.arrived_after_ns(now_ns))
        peer.record_answered()

    def write(
        self,
        peer: PeerActivity,
        values: Mapping[str, _register_map.TagValue],
        rejected_names: Collection[str],
    ) -> None:
        """Process one Write call.

        Args:
            peer: Of the session.
            values: The valid values by name.
            rejected_names: Names whose value `check_write` has rejected.
        """
        self._named.write(peer, values, rejected_names)
        self._ack_after = self._acks.revision_at_ack(
            self._named.commands().results_ack, self.visible_revision
        )

    def commands(self) -> PlcCommands:
        """Return the commands now in force."""
        return replace(self._named.commands(), ack_after=self._ack_after)


def _check_text(text: Any) -> int | None:
    if text is None:
        return int(ua.StatusCodes.BadTypeMismatch)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # not UTF-8
        return int(ua.StatusCodes.BadOutOfRange)
    if size > TEXT_BYTES_MAX or has_control_characters(text):
        return int(ua.StatusCodes.BadOutOfRange)
    return None
