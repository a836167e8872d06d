"""A Sparkplug edge node with one device: the messages for each image. Pure; no broker here.

    connected --NBIRTH--> node --DBIRTH--> device alive: DDATA
                           ^                   |
                           +----- DDEATH ------+   the line is offline

The device is the line, alive while the line is online. The node is this gateway; the broker
publishes its death. A result is always a DDATA, with the time of its capture; one that was
captured before this connection is historical.

Source: Eclipse Sparkplug 3.0.0, chapters 5 and 6
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import NS_PER_MS, PlcResult, ProcessImage, fits_utf8
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._sparkplug.payload import DataType, SparkplugMetric, SparkplugPayload

REBIRTH_METRIC = "Node Control/Rebirth"
BD_SEQ_METRIC = "bdSeq"
_SEQ_COUNT = 256
_SPARKPLUG_TYPES = {
    "bits": DataType.UINT16,
    "uint16": DataType.UINT16,
    "uint32": DataType.UINT32,
    "int32": DataType.INT32,
    "text": DataType.STRING,
}
_TAG_TYPES = {
    tag.name: _SPARKPLUG_TYPES[tag.type]
    for tag in (*_register_map.OUTPUT_TAGS, *_register_map.INPUT_TAGS)
}


@dataclass(frozen=True, slots=True)
class SparkplugMessage:
    """A message to be published."""

    kind: str
    """`NBIRTH`, `DBIRTH`, `DDATA` or `DDEATH`."""
    payload: SparkplugPayload

    @property
    def is_node_message(self) -> bool:
        """True if its topic ends with the node, not the device."""
        return self.kind.startswith("N")


class EdgeNode:
    """The messages of one connection, in order. Not thread-safe."""

    def __init__(
        self, bd_seq: int, now_ms: int, last_result_sent: tuple[int, int] | None = None
    ) -> None:
        """Start before the births.

        Args:
            bd_seq: Number of the connection, 0 to 255; the same as in the will.
            now_ms: UTC of the connection.
            last_result_sent: Key of the last result that an earlier connection has sent.
        """
        self.last_result_sent = last_result_sent
        """(sequence generation, seq) of the last result sent as DDATA."""
        self._bd_seq = bd_seq
        self._born_at_ms = now_ms
        self._seq = 0
        self._is_node_born = False
        self._is_device_born = False
        self._last_values: dict[str, _register_map.TagValue] = {}
        self._changed_at_ms: dict[str, int] = {}
        self._rebirth_requested = False

    def death(self, now_ms: int) -> SparkplugPayload:
        """Return the NDEATH for the will and for a disconnect. It has no seq."""
        return SparkplugPayload(
            now_ms, (SparkplugMetric(BD_SEQ_METRIC, DataType.INT64, self._bd_seq, now_ms),), None
        )

    def request_rebirth(self) -> None:
        """Send the births again with the next image, with the same bdSeq."""
        self._rebirth_requested = True

    @property
    def is_rebirth_requested(self) -> bool:
        """Whether a host has requested the births."""
        return self._rebirth_requested

    def messages_for(
        self, image: ProcessImage, inputs: dict[str, Any], now_ms: int
    ) -> Iterator[SparkplugMessage]:
        """Yield what must be published so that every host has this image.

        Args:
            image: The image.
            inputs: The current values of the inputs.
            now_ms: UTC.
        """
        values = {**_register_codec.tag_values(image), **inputs}
        if not self._is_node_born or self._rebirth_requested:
            self._rebirth_requested = False
            self._is_node_born, self._is_device_born = True, False
            self._seq = 0
            node = (
                SparkplugMetric(BD_SEQ_METRIC, DataType.INT64, self._bd_seq, now_ms),
                SparkplugMetric(REBIRTH_METRIC, DataType.BOOLEAN, False, now_ms),
            )
            yield self._message("NBIRTH", node, now_ms)
        for name, value in values.items():
            if self._last_values.get(name) != value:
                self._changed_at_ms[name] = now_ms
        if not self._is_device_born:
            if image.online:
                self._is_device_born = True
                yield self._message("DBIRTH", self._metrics(values, image.result, now_ms), now_ms)
                yield from self._result_messages(values, image, now_ms)
        else:
            if image.result is not None and self.last_result_sent != _result_key(
                image, image.result
            ):
                yield from self._result_messages(values, image, now_ms)
            else:
                changed = {
                    name: value
                    for name, value in values.items()
                    if value != self._last_values.get(name)
                }
                if changed:
                    metrics = self._metrics(changed, image.result, now_ms)
                    yield self._message("DDATA", metrics, now_ms)
            if not image.online:
                self._is_device_born = False
                yield self._message("DDEATH", (), now_ms)
        self._last_values = values

    def _result_messages(
        self, values: dict[str, _register_map.TagValue], image: ProcessImage, now_ms: int
    ) -> Iterator[SparkplugMessage]:
        """Yield a new result completely, changed or not, with what else changed; once each."""
        if image.result is None or self.last_result_sent == _result_key(image, image.result):
            return
        sent = {
            name: value
            for name, value in values.items()
            if name in _register_map.RESULT_TAGS or value != self._last_values.get(name)
        }
        yield self._message("DDATA", self._metrics(sent, image.result, now_ms, True), now_ms)
        self.last_result_sent = _result_key(image, image.result)

    def _metrics(
        self,
        values: dict[str, _register_map.TagValue],
        result: PlcResult | None,
        now_ms: int,
        is_new_result: bool = False,
    ) -> tuple[SparkplugMetric, ...]:
        """Return metrics with their times; those of a new result may be historical."""
        captured_ms = result.captured_at_utc_ns // NS_PER_MS if result is not None else 0
        historical = is_new_result and 0 < captured_ms < self._born_at_ms
        made = []
        for name, value in values.items():
            at_ms = self._changed_at_ms.get(name, now_ms)
            of_result = name in _register_map.RESULT_TAGS and captured_ms > 0
            made.append(
                SparkplugMetric(
                    name,
                    _TAG_TYPES.get(name, DataType.BOOLEAN),
                    value,
                    captured_ms if of_result else at_ms,
                    historical and of_result,
                )
            )
        return tuple(made)

    def _message(
        self, kind: str, metrics: tuple[SparkplugMetric, ...], now_ms: int
    ) -> SparkplugMessage:
        payload = SparkplugPayload(now_ms, metrics, self._seq)
        self._seq = (self._seq + 1) % _SEQ_COUNT
        return SparkplugMessage(kind, payload)


def _result_key(image: ProcessImage, result: PlcResult) -> tuple[int, int]:
    return image.sequence_generation, result.seq


def initial_commands() -> dict[str, Any]:
    """Return the value of every input before it is written."""
    return {
        "Enable": False,
        "FaultReset": False,
        "ResultsAck": 0,
        "TriggerId": 0,
        "TriggerEncoder": 0,
        "TriggerPartId": "",
    }


def split_commands(payload: SparkplugPayload) -> tuple[dict[str, Any], list[str]]:
    """Return the values that a DCMD writes, by name, and the names with a wrong type."""
    values, refused = {}, []
    for metric in payload.metrics:
        if metric.type is _TAG_TYPES.get(metric.name, DataType.BOOLEAN):
            values[metric.name] = metric.value
        else:
            refused.append(metric.name)
    return values, refused


def merge_commands(current: dict[str, Any], payload: SparkplugPayload) -> dict[str, Any]:
    """Return the inputs after a DCMD, to be repeated to the hosts.

    Metrics with another name or type, and text that is not UTF-8, are ignored.
    """
    values, _refused = split_commands(payload)
    valid = {
        name: value
        for name, value in values.items()
        if name in current and not (isinstance(value, str) and not fits_utf8(value))
    }
    return {**current, **valid}
