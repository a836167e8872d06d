"""The inputs of each kind of link: what the PLC has written, and how old a trigger can be."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._input_age import PeerActivity, PollTimes
from edgeinspect.plclinks._modbus.inputs import ModbusServerInputs
from edgeinspect.plclinks._named_inputs import NamedInputs
from edgeinspect.plclinks._polled_inputs import PolledInputs

MS = NS_PER_MS
PART = struct.Struct(">i32s")


def trigger_words(trigger_id: int, part: str = "", encoder: int = 0) -> bytes:
    """The whole block, as the PLC program in docs/howto/plc.md writes it."""
    return struct.pack(">HHI", 0, trigger_id, 0) + PART.pack(encoder, part.encode())


def trigger(commands: PlcCommands) -> tuple[int | None, str, TriggerRefusal]:
    return commands.trigger_id, commands.trigger_part_id, commands.trigger_problem


def activity_at(peer: PeerActivity, now_ns: int = 0, arrived_after_ns: int = 0) -> PeerActivity:
    peer.record_message(now_ns, arrived_after_ns)
    peer.record_answered()
    return peer


# -- Modbus server ----------------------------------------------------------------------


def test_an_input_is_no_command_before_it_is_written() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    assert inputs.commands() == PlcCommands()
    inputs.write(2, bytes(2), peer)  # half of an acknowledgement
    assert inputs.commands().results_ack is None
    inputs.write(3, b"\0\7", peer)
    assert inputs.commands().results_ack == 7
    assert inputs.commands().trigger_id is None
    inputs.write(1, b"\0\0", peer)
    assert inputs.commands().trigger_id == 0


def test_id_and_part_in_one_request_are_one_trigger() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a"), peer)
    inputs.write(0, trigger_words(2, "Teil-\u00c4"), peer)
    assert trigger(inputs.commands()) == (2, "Teil-\u00c4", TriggerRefusal.NONE)


def test_an_id_alone_is_a_trigger_without_a_part() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, bytes(2 * _register_map.INPUT_WORDS), peer)
    inputs.write(1, b"\0\1", peer)
    assert trigger(inputs.commands()) == (1, "", TriggerRefusal.NONE)
    inputs.write(0, struct.pack(">HHIi", 0, 2, 0, 77), peer)  # up to the encoder
    assert inputs.commands().trigger_encoder == 77
    assert inputs.commands().trigger_problem is TriggerRefusal.NONE


@pytest.mark.parametrize("first", ["part", "id"])
def test_an_id_in_another_request_than_its_part_is_torn(first: str) -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(1, b"\0\1", peer)
    if first == "part":
        inputs.write(4, PART.pack(0, b"one"), peer)
    inputs.write(1, b"\0\2", peer)
    if first == "id":  # the first has no part; from the second on the part is of another request
        assert trigger(inputs.commands()) == (2, "", TriggerRefusal.NONE)
        inputs.write(4, PART.pack(0, b"one"), peer)
        assert trigger(inputs.commands()) == (2, "", TriggerRefusal.NONE), (
            "a later part does not change the trigger"
        )
        inputs.write(1, b"\0\3", peer)
    assert inputs.commands().trigger_problem is TriggerRefusal.TORN


def test_a_request_with_half_a_part_is_torn() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a-name-of-20-letters"), peer)
    inputs.write(0, trigger_words(2, "a-name-of-20-letterz")[:24], peer)
    assert trigger(inputs.commands())[2] is TriggerRefusal.TORN


def test_a_part_written_for_the_next_trigger_changes_nothing() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a"), peer)
    inputs.write(0, trigger_words(2, "b"), peer)
    inputs.write(4, PART.pack(0, b"c"), peer)
    assert trigger(inputs.commands()) == (2, "b", TriggerRefusal.NONE)
    inputs.write(0, trigger_words(3, "c"), peer)
    assert trigger(inputs.commands()) == (3, "c", TriggerRefusal.NONE)


def test_low_word_first() -> None:
    inputs, peer = ModbusServerInputs(low_word_first=True), activity_at(PeerActivity())
    block = _register_codec.swap_words(
        trigger_words(1, "a", encoder=-70_000), _register_map.INPUT_TAGS
    )
    inputs.write(0, block, peer)
    assert inputs.commands().trigger_encoder == -70_000


def test_two_writers_do_not_retrigger_each_other() -> None:
    """A panel that repeats 12 beside the PLC's 57 does not request a frame with each write."""
    inputs, plc, panel = (
        ModbusServerInputs(low_word_first=False),
        activity_at(PeerActivity()),
        activity_at(PeerActivity()),
    )
    inputs.write(0, trigger_words(57, "a"), plc)
    inputs.write(0, trigger_words(12, "b"), panel)
    seen = []
    for _ in range(3):
        inputs.write(0, trigger_words(57, "a"), plc)
        inputs.write(0, trigger_words(12, "b"), panel)
        seen.append(inputs.commands().trigger_id)
    assert len(set(seen)) == 1
    inputs.write(0, trigger_words(58, "c"), plc)
    assert trigger(inputs.commands()) == (58, "c", TriggerRefusal.NONE)


# -- the age of a trigger ---------------------------------------------------------------


def polling(peer: PeerActivity, now_ns: int, count: int = 20, every_ns: int = 40 * MS) -> int:
    for _ in range(count):
        now_ns += every_ns
        activity_at(peer, now_ns, now_ns)
    return now_ns


def test_the_first_trigger_of_a_connection_is_as_old_as_the_previous_connection() -> None:
    peer = PeerActivity("plc", previous_contact_ns=None)
    polling(peer, 0)
    assert peer.record_trigger() is None
    again = PeerActivity("plc", previous_contact_ns=7)
    polling(again, NS_PER_S)
    assert again.record_trigger() == 7


def test_on_a_live_connection_a_trigger_is_as_old_as_the_previous_poll() -> None:
    peer = PeerActivity()
    now_ns = polling(peer, 0)
    peer.record_trigger()
    now_ns = polling(peer, now_ns)
    peer.record_message(now_ns + 40 * MS, now_ns + 35 * MS)
    assert peer.record_trigger() == now_ns + 35 * MS


@pytest.mark.parametrize("reads_between", [0, 1, 3])
def test_after_a_silence_a_trigger_may_be_as_old_as_the_silence(reads_between: int) -> None:
    """An unplugged cable: the PLC's next write may be an old request."""
    peer = PeerActivity()
    now_ns = polling(peer, 0)
    peer.record_trigger()
    broke_ns = polling(peer, now_ns)
    now_ns = polling(peer, broke_ns + 1500 * MS, reads_between)
    peer.record_message(now_ns + 40 * MS, now_ns)
    assert peer.record_trigger() == broke_ns
    now_ns = polling(peer, now_ns + 40 * MS)
    peer.record_message(now_ns + 40 * MS, now_ns)
    assert peer.record_trigger() == now_ns, "the next one is not affected"


@pytest.mark.parametrize(
    ("writes", "silence_ms", "away"),
    [(True, 250, False), (True, 400, True), (False, 400, False), (False, 1_100, True)],
)
def test_how_long_a_silence_counts_as_a_disconnection(
    writes: bool, silence_ms: int, away: bool
) -> None:
    """For a peer that writes in every cycle, and one that reads in every cycle."""
    peer, now_ns = PeerActivity(), 0
    for number in range(20):
        now_ns += 40 * MS
        activity_at(peer, now_ns, now_ns)
        if writes or not number:
            peer.record_trigger()
    peer.record_message(now_ns + silence_ms * MS, now_ns + (silence_ms - 5) * MS)
    wanted_ns = now_ns if away else now_ns + (silence_ms - 5) * MS
    assert peer.record_trigger() == wanted_ns


def test_answering_an_old_message_is_not_contact() -> None:
    """A gateway that was stopped answers a PLC that has disconnected, and then reconnects."""
    peer = PeerActivity()
    now_ns = polling(peer, 0)
    peer.record_trigger()
    stopped_ns = polling(peer, now_ns)
    peer.record_message(stopped_ns + 2 * NS_PER_S, stopped_ns)
    peer.record_answered()
    again = PeerActivity("plc", previous_contact_ns=peer.last_contact_ns)
    again.record_message(stopped_ns + 2 * NS_PER_S + 20 * MS, stopped_ns + 2 * NS_PER_S)
    assert again.record_trigger() == stopped_ns


def test_triggers_of_a_client_that_writes_only_on_events_are_fresh() -> None:
    peer, now_ns = PeerActivity(), 0
    for _ in range(5):
        now_ns += 3 * NS_PER_S
        peer.record_message(now_ns, now_ns - 5 * MS)
        since_ns = peer.record_trigger()
        peer.record_answered()
    assert since_ns == now_ns - 5 * MS


def test_what_arrived_during_a_stop_of_the_loop_is_as_old_as_the_stop() -> None:
    polls = PollTimes(0)
    for at in range(0, 500, 5):
        polls.record_poll(at * MS)
    stopped_ns = 495 * MS
    woke_ns = stopped_ns + 2 * NS_PER_S
    assert polls.arrived_after_ns(woke_ns) <= stopped_ns
    for after in (1, 2, 50, 200):  # whichever thread runs first
        polls.record_poll(woke_ns + after * MS)
        assert polls.arrived_after_ns(woke_ns + after * MS) <= stopped_ns
    for after in range(255, 300, 5):
        polls.record_poll(woke_ns + after * MS)
    assert polls.arrived_after_ns(woke_ns + 300 * MS) >= woke_ns + 250 * MS


# -- names: OPC UA, MQTT ----------------------------------------------------------------


def test_one_write_by_name_is_one_trigger() -> None:
    inputs, peer = NamedInputs(), activity_at(PeerActivity())
    inputs.write(peer, {"ResultsAck": 4})
    assert inputs.commands() == PlcCommands(results_ack=4)
    long_name = "ORDER-2026-11-28/SHIFT-A/PART-00012345"
    inputs.write(
        peer, {"TriggerId": 5, "TriggerPartId": long_name, "TriggerEncoder": -3, "Enable": True}
    )
    commands = inputs.commands()
    assert trigger(commands) == (5, long_name, TriggerRefusal.NONE)
    assert (commands.trigger_encoder, commands.enable, commands.results_ack) == (-3, True, 4)


@pytest.mark.parametrize(
    ("values", "refused", "problem"),
    [
        ({"TriggerId": 6}, (), TriggerRefusal.TORN),
        ({"TriggerId": 6, "TriggerEncoder": 1}, (), TriggerRefusal.TORN),
        ({"TriggerId": 6, "TriggerEncoder": 1}, ("TriggerPartId",), TriggerRefusal.PART_ID),
        ({"TriggerId": 6, "TriggerEncoder": 1, "TriggerPartId": ["b"]}, (), TriggerRefusal.PART_ID),
        (
            {"TriggerId": 6, "TriggerEncoder": 1, "TriggerPartId": "b\r\n"},
            (),
            TriggerRefusal.PART_ID,
        ),
        ({"TriggerId": 6, "TriggerEncoder": True, "TriggerPartId": "b"}, (), TriggerRefusal.TORN),
    ],
)
def test_a_part_of_another_write_is_torn_and_an_invalid_one_refused(
    values: dict[str, object], refused: tuple[str, ...], problem: TriggerRefusal
) -> None:
    inputs, peer = NamedInputs(), activity_at(PeerActivity())
    inputs.write(peer, {"TriggerId": 5, "TriggerPartId": "a", "TriggerEncoder": 9})
    inputs.write(peer, values, refused)
    assert inputs.commands().trigger_id == 6
    assert inputs.commands().trigger_problem is problem


def test_invalid_values_are_ignored() -> None:
    inputs, peer = NamedInputs(), activity_at(PeerActivity())
    for value in ([1, 2], None, "1", 1.5, True, {"a": 1}):
        inputs.write(peer, {"TriggerId": value, "ResultsAck": value, "Nothing": value})
    inputs.write(peer, {"Enable": 1})
    assert inputs.commands() == PlcCommands()


# -- polled: S7, Modbus client -----------------------------------------------------------


class ScriptedBlocks:
    """Returns one block after the other, then the last one again."""

    def __init__(self, clock: ManualClock, *blocks: bytes) -> None:
        self.clock = clock
        self.blocks: Iterator[bytes] = iter(blocks)
        self.last = blocks[-1]

    def read(self) -> bytes:
        self.clock.advance(2 * MS)
        return next(self.blocks, self.last)


def test_a_new_id_is_as_old_as_the_previous_read() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    first = inputs.read_commands(ScriptedBlocks(clock, trigger_words(57, "a")).read)
    assert (first.trigger_id, first.trigger_since_ns) == (57, None)
    clock.advance(NS_PER_S)
    unchanged_ns = clock.now_ns()
    assert (
        inputs.read_commands(ScriptedBlocks(clock, trigger_words(57, "a")).read).trigger_since_ns
        is None
    )
    clock.advance(3 * NS_PER_S)  # a connection that was lost, or a gateway that was stopped
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(58, "b")).read)
    assert (trigger(now), now.trigger_since_ns) == ((58, "b", TriggerRefusal.NONE), unchanged_ns)


def test_a_part_that_arrives_after_its_id_is_waited_for() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a")).read)
    half = trigger_words(2, "a"), trigger_words(2, "half"), trigger_words(2, "whole")
    assert trigger(inputs.read_commands(ScriptedBlocks(clock, *half).read)) == (
        2,
        "whole",
        TriggerRefusal.NONE,
    )


def test_a_part_that_keeps_changing_is_torn() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a")).read)
    blocks = [trigger_words(2, f"part-{n}") for n in range(20)]
    assert (
        trigger(inputs.read_commands(ScriptedBlocks(clock, *blocks).read))[2] is TriggerRefusal.TORN
    )


def test_with_trigger_check_an_id_counts_when_both_are_equal() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock, has_trigger_check=True)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a") + b"\0\1").read)
    unchanged_ns = clock.now_ns()
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a") + b"\0\1").read)
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(2, "a") + b"\0\1").read)
    assert trigger(now) == (1, "a", TriggerRefusal.NONE)
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(2, "b") + b"\0\2").read)
    assert (trigger(now), now.trigger_since_ns) == ((2, "b", TriggerRefusal.NONE), unchanged_ns)
