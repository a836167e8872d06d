"""What counts as written by the PLC, and how old a trigger can be, in each kind of link."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.plc import PlcCommands, TriggerRefusal
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._input_age import PeerActivity, PollTimes
from edgeinspect.plclinks._modbus.inputs import ModbusServerInputs
from edgeinspect.plclinks._named_inputs import NamedInputs
from edgeinspect.plclinks._polled_inputs import PolledInputs

MS = NS_PER_MS
PART = struct.Struct(">i32s")


def trigger_words(trigger_id: int, part: str = "", encoder: int = 0) -> bytes:
    """The whole block, as the documents' PLC writes it."""
    return struct.pack(">HHI", 0, trigger_id, 0) + PART.pack(encoder, part.encode())


def trigger(commands: PlcCommands) -> tuple[int | None, str, TriggerRefusal]:
    return commands.trigger_id, commands.trigger_part_id, commands.trigger_problem


def activity_at(contact: PeerActivity, now_ns: int = 0, arrived_after_ns: int = 0) -> PeerActivity:
    contact.record_message(now_ns, arrived_after_ns)
    contact.record_answered()
    return contact


# -- Modbus server ----------------------------------------------------------------------


def test_nothing_counts_before_it_is_written() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    assert inputs.commands() == PlcCommands()
    inputs.write(2, bytes(2), contact)  # half of an acknowledgement
    assert inputs.commands().results_ack is None
    inputs.write(3, b"\0\7", contact)
    assert inputs.commands().results_ack == 7
    assert inputs.commands().trigger_id is None
    inputs.write(1, b"\0\0", contact)
    assert inputs.commands().trigger_id == 0


def test_id_and_part_in_one_request_are_one_trigger() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a"), contact)
    inputs.write(0, trigger_words(2, "Teil-\u00c4"), contact)
    assert trigger(inputs.commands()) == (2, "Teil-\u00c4", TriggerRefusal.NONE)


def test_an_id_alone_is_a_trigger_of_no_part() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, bytes(2 * _register_map.INPUT_WORDS), contact)
    inputs.write(1, b"\0\1", contact)
    assert trigger(inputs.commands()) == (1, "", TriggerRefusal.NONE)
    inputs.write(0, struct.pack(">HHIi", 0, 2, 0, 77), contact)  # up to the encoder
    assert inputs.commands().trigger_encoder == 77
    assert inputs.commands().trigger_problem is TriggerRefusal.NONE


@pytest.mark.parametrize("first", ["part", "id"])
def test_an_id_in_another_request_than_its_part_is_torn(first: str) -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(1, b"\0\1", contact)
    if first == "part":
        inputs.write(4, PART.pack(0, b"one"), contact)
    inputs.write(1, b"\0\2", contact)
    if first == "id":  # the first of such a PLC has no part; from the second on it is known
        assert trigger(inputs.commands()) == (2, "", TriggerRefusal.NONE)
        inputs.write(4, PART.pack(0, b"one"), contact)
        assert trigger(inputs.commands()) == (2, "", TriggerRefusal.NONE), "what was asked stays so"
        inputs.write(1, b"\0\3", contact)
    assert inputs.commands().trigger_problem is TriggerRefusal.TORN


def test_half_a_part_in_the_request_is_torn() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a-name-of-20-letters"), contact)
    inputs.write(0, trigger_words(2, "a-name-of-20-letterz")[:24], contact)
    assert trigger(inputs.commands())[2] is TriggerRefusal.TORN


def test_a_part_that_is_prepared_for_the_next_trigger_changes_nothing() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=False), activity_at(PeerActivity())
    inputs.write(0, trigger_words(1, "a"), contact)
    inputs.write(0, trigger_words(2, "b"), contact)
    inputs.write(4, PART.pack(0, b"c"), contact)
    assert trigger(inputs.commands()) == (2, "b", TriggerRefusal.NONE)
    inputs.write(0, trigger_words(3, "c"), contact)
    assert trigger(inputs.commands()) == (3, "c", TriggerRefusal.NONE)


def test_the_low_word_first() -> None:
    inputs, contact = ModbusServerInputs(low_word_first=True), activity_at(PeerActivity())
    block = _register_map.swap_words(
        trigger_words(1, "a", encoder=-70_000), _register_map.INPUT_TAGS
    )
    inputs.write(0, block, contact)
    assert inputs.commands().trigger_encoder == -70_000


def test_two_who_write_do_not_trigger_each_other() -> None:
    """A panel that keeps writing 12 beside the PLC's 57 asks for no frame at each write."""
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


# -- how old it can be ------------------------------------------------------------------


def polling(contact: PeerActivity, now_ns: int, count: int = 20, every_ns: int = 40 * MS) -> int:
    for _ in range(count):
        now_ns += every_ns
        activity_at(contact, now_ns, now_ns)
    return now_ns


def test_the_first_of_a_connection_is_as_old_as_the_one_before() -> None:
    contact = PeerActivity("plc", previous_contact_ns=None)
    polling(contact, 0)
    assert contact.record_trigger() is None
    again = PeerActivity("plc", previous_contact_ns=7)
    polling(again, NS_PER_S)
    assert again.record_trigger() == 7


def test_on_a_live_connection_it_is_as_old_as_the_look_before() -> None:
    contact = PeerActivity()
    now_ns = polling(contact, 0)
    contact.record_trigger()
    now_ns = polling(contact, now_ns)
    contact.record_message(now_ns + 40 * MS, now_ns + 35 * MS)
    assert contact.record_trigger() == now_ns + 35 * MS


@pytest.mark.parametrize("reads_between", [0, 1, 3])
def test_after_a_silence_it_may_be_as_old_as_that(reads_between: int) -> None:
    """A cable that was out: the PLC's next write is what it wanted some time ago."""
    contact = PeerActivity()
    now_ns = polling(contact, 0)
    contact.record_trigger()
    broke_ns = polling(contact, now_ns)
    now_ns = polling(contact, broke_ns + 1500 * MS, reads_between)
    contact.record_message(now_ns + 40 * MS, now_ns)
    assert contact.record_trigger() == broke_ns
    now_ns = polling(contact, now_ns + 40 * MS)
    contact.record_message(now_ns + 40 * MS, now_ns)
    assert contact.record_trigger() == now_ns, "the next is judged anew"


@pytest.mark.parametrize(
    ("writes", "silence_ms", "away"),
    [(True, 250, False), (True, 400, True), (False, 400, False), (False, 1_100, True)],
)
def test_how_long_a_silence_is_an_absence(writes: bool, silence_ms: int, away: bool) -> None:
    """Of one that writes every cycle, and of one that reads every cycle and writes at need."""
    contact, now_ns = PeerActivity(), 0
    for number in range(20):
        now_ns += 40 * MS
        activity_at(contact, now_ns, now_ns)
        if writes or not number:
            contact.record_trigger()
    contact.record_message(now_ns + silence_ms * MS, now_ns + (silence_ms - 5) * MS)
    wanted_ns = now_ns if away else now_ns + (silence_ms - 5) * MS
    assert contact.record_trigger() == wanted_ns


def test_an_answer_to_what_lay_there_is_no_contact() -> None:
    """A gateway that was stopped answers a PLC that has hung up, and comes again at once."""
    contact = PeerActivity()
    now_ns = polling(contact, 0)
    contact.record_trigger()
    stopped_ns = polling(contact, now_ns)
    contact.record_message(stopped_ns + 2 * NS_PER_S, stopped_ns)
    contact.record_answered()
    again = PeerActivity("plc", previous_contact_ns=contact.last_contact_ns)
    again.record_message(stopped_ns + 2 * NS_PER_S + 20 * MS, stopped_ns + 2 * NS_PER_S)
    assert again.record_trigger() == stopped_ns


def test_a_client_that_only_writes_when_it_must_is_heard() -> None:
    contact, now_ns = PeerActivity(), 0
    for _ in range(5):
        now_ns += 3 * NS_PER_S
        contact.record_message(now_ns, now_ns - 5 * MS)
        since_ns = contact.record_trigger()
        contact.record_answered()
    assert since_ns == now_ns - 5 * MS


def test_what_lay_there_while_the_loop_stood_still_is_as_old_as_that() -> None:
    turns = PollTimes(0)
    for at in range(0, 500, 5):
        turns.record_poll(at * MS)
    stopped_ns = 495 * MS
    woke_ns = stopped_ns + 2 * NS_PER_S
    assert turns.arrived_after_ns(woke_ns) <= stopped_ns
    for after in (1, 2, 50, 200):  # whichever of the threads wakes up first
        turns.record_poll(woke_ns + after * MS)
        assert turns.arrived_after_ns(woke_ns + after * MS) <= stopped_ns
    for after in range(255, 300, 5):
        turns.record_poll(woke_ns + after * MS)
    assert turns.arrived_after_ns(woke_ns + 300 * MS) >= woke_ns + 250 * MS


# -- names: OPC UA, MQTT ----------------------------------------------------------------


def test_one_write_by_name_is_one_trigger() -> None:
    inputs, contact = NamedInputs(), activity_at(PeerActivity())
    inputs.write(contact, {"ResultsAck": 4})
    assert inputs.commands() == PlcCommands(results_ack=4)
    long_name = "ORDER-2026-11-28/SHIFT-A/PART-00012345"
    inputs.write(
        contact, {"TriggerId": 5, "TriggerPartId": long_name, "TriggerEncoder": -3, "Enable": True}
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
def test_names_from_another_write_are_torn_and_bad_ones_refused(
    values: dict[str, object], refused: tuple[str, ...], problem: TriggerRefusal
) -> None:
    inputs, contact = NamedInputs(), activity_at(PeerActivity())
    inputs.write(contact, {"TriggerId": 5, "TriggerPartId": "a", "TriggerEncoder": 9})
    inputs.write(contact, values, refused)
    assert inputs.commands().trigger_id == 6
    assert inputs.commands().trigger_problem is problem


def test_values_that_are_none_are_passed_over() -> None:
    inputs, contact = NamedInputs(), activity_at(PeerActivity())
    for value in ([1, 2], None, "1", 1.5, True, {"a": 1}):
        inputs.write(contact, {"TriggerId": value, "ResultsAck": value, "Nothing": value})
    inputs.write(contact, {"Enable": 1})
    assert inputs.commands() == PlcCommands()


# -- the PLC's own memory: S7, Modbus client --------------------------------------------


class ScriptedBlocks:
    """Blocks that are read one after the other; the last one stays."""

    def __init__(self, clock: ManualClock, *blocks: bytes) -> None:
        self.clock = clock
        self.blocks: Iterator[bytes] = iter(blocks)
        self.last = blocks[-1]

    def read(self) -> bytes:
        self.clock.advance(2 * MS)
        return next(self.blocks, self.last)


def test_a_new_id_in_the_plc_s_memory_is_as_old_as_the_reading_before() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    first = inputs.read_commands(ScriptedBlocks(clock, trigger_words(57, "a")).read)
    assert (first.trigger_id, first.trigger_since_ns) == (57, None)
    clock.advance(NS_PER_S)
    held_ns = clock.now_ns()
    assert (
        inputs.read_commands(ScriptedBlocks(clock, trigger_words(57, "a")).read).trigger_since_ns
        is None
    )
    clock.advance(3 * NS_PER_S)  # a connection that was lost, or a gateway that was stopped
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(58, "b")).read)
    assert (trigger(now), now.trigger_since_ns) == ((58, "b", TriggerRefusal.NONE), held_ns)


def test_a_part_that_arrives_behind_its_id_is_waited_for() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a")).read)
    half = trigger_words(2, "a"), trigger_words(2, "half"), trigger_words(2, "whole")
    assert trigger(inputs.read_commands(ScriptedBlocks(clock, *half).read)) == (
        2,
        "whole",
        TriggerRefusal.NONE,
    )


def test_a_part_that_does_not_come_to_rest_is_torn() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a")).read)
    blocks = [trigger_words(2, f"part-{n}") for n in range(20)]
    assert (
        trigger(inputs.read_commands(ScriptedBlocks(clock, *blocks).read))[2] is TriggerRefusal.TORN
    )


def test_with_a_check_the_id_counts_when_both_are_there() -> None:
    clock = ManualClock()
    inputs = PolledInputs(clock, has_trigger_check=True)
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a") + b"\0\1").read)
    held_ns = clock.now_ns()
    inputs.read_commands(ScriptedBlocks(clock, trigger_words(1, "a") + b"\0\1").read)
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(2, "a") + b"\0\1").read)
    assert trigger(now) == (1, "a", TriggerRefusal.NONE)
    now = inputs.read_commands(ScriptedBlocks(clock, trigger_words(2, "b") + b"\0\2").read)
    assert (trigger(now), now.trigger_since_ns) == ((2, "b", TriggerRefusal.NONE), held_ns)
