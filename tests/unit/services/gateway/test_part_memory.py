from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from edgeinspect.domain.plc import TriggerRefusal
from edgeinspect.errors import DataError, DeviceLostError, exit_code_of
from edgeinspect.services.gateway.part_memory import (
    CELL_BYTES,
    TRIGGERS_MAX,
    LastTrigger,
    NotPassedReason,
    PartMemory,
    TriggerState,
    digest_part_id,
)
from tests.unit.services.gateway.invalid_files import INVALID_KINDS, put_invalid_file


def memory(path: Path, capacity: int = 8, name: str = "plc-1") -> PartMemory:
    return PartMemory(path, name=name, capacity=capacity)


def reasons(opened: PartMemory, names: str) -> dict[str, NotPassedReason]:
    found = {name: opened.find_not_passed(digest_part_id(name)) for name in names}
    return {name: record.reason for name, record in found.items() if record is not None}


def test_everything_is_kept_across_a_restart(tmp_path: Path) -> None:
    first = memory(tmp_path / "m")
    assert first.last_trigger is None
    for number in range(1, 6):
        first.save_last_trigger(
            LastTrigger(number, TriggerState.REQUESTED, TriggerRefusal.NONE, digest_part_id("a"))
        )
    first.save_last_trigger(LastTrigger(6, TriggerState.REFUSED, TriggerRefusal.TORN))
    first.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    first.save_not_passed(digest_part_id("b"), NotPassedReason.NO_VERDICT, 3, 4)
    first.save_not_passed(digest_part_id("c"), NotPassedReason.REFUSED, 3, 4)
    first.save_not_passed(digest_part_id("a"), NotPassedReason.NO_VERDICT, 5, 6)
    first.clear_refused(digest_part_id("c"))
    first.clear_refused(digest_part_id("a"))
    first.close()
    again = memory(tmp_path / "m")
    assert again.last_trigger == LastTrigger(6, TriggerState.REFUSED, TriggerRefusal.TORN)
    assert reasons(again, "abc") == {"a": NotPassedReason.REJECTED, "b": NotPassedReason.NO_VERDICT}
    record = again.find_not_passed(digest_part_id("b"))
    assert record is not None
    assert again.age_ns(record, 13, 1_000_000) == 10, "the same boot: the monotonic clock"
    again.close()
    again.close()


def test_triggers_are_kept_across_a_restart(tmp_path: Path) -> None:
    opened = memory(tmp_path / "m")
    for number in range(TRIGGERS_MAX + 10):
        assert opened.save_trigger(number, digest_part_id("a"), number, 2) is None
    assert opened.save_trigger(20, digest_part_id("a"), 5_000, 2) is not None
    opened.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    opened.close()
    for capacity in (8, 3, 20):
        again = memory(tmp_path / "m", capacity)
        assert reasons(again, "a") == {"a": NotPassedReason.REJECTED}
        record = again.save_trigger(20, digest_part_id("a"), 6_000, 2)
        assert record is not None
        assert record.monotonic_ns >= 5_000
        assert again.save_trigger(TRIGGERS_MAX + 9, digest_part_id("a"), 6_000, 2) is not None
        again.close()
    again = memory(tmp_path / "m", 20)
    assert again.save_trigger(0, digest_part_id("a"), 6_000, 2) is None, (
        "the oldest are overwritten"
    )
    assert again.save_trigger(20, digest_part_id("b"), 6_000, 2) is None, "another part"
    again.close()


def test_a_file_of_a_version_without_triggers_keeps_its_parts(tmp_path: Path) -> None:
    opened = memory(tmp_path / "m")
    opened.save_trigger(7, digest_part_id("a"), 1, 2)
    opened.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    opened.close()
    os.truncate(tmp_path / "m", (tmp_path / "m").stat().st_size - TRIGGERS_MAX * CELL_BYTES)
    again = memory(tmp_path / "m")
    assert reasons(again, "a") == {"a": NotPassedReason.REJECTED}
    assert again.save_trigger(7, digest_part_id("a"), 1, 2) is None
    again.close()


def test_after_a_reboot_the_wall_clock_counts(tmp_path: Path) -> None:
    first = memory(tmp_path / "m")
    first._boot_crc += 1
    first.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 100)
    first.close()
    again = memory(tmp_path / "m")
    record = again.find_not_passed(digest_part_id("a"))
    assert record is not None
    assert again.age_ns(record, 5, 150) == 50
    again.close()


def test_the_newest_parts_are_kept_with_any_capacity(tmp_path: Path) -> None:
    names = "abcdefghijklmnopqrst"
    opened = memory(tmp_path / "m")
    for name in names:
        opened.save_not_passed(digest_part_id(name), NotPassedReason.REJECTED, 1, 2)
    assert "".join(reasons(opened, names)) == names[-8:]
    opened.save_last_trigger(LastTrigger(9, TriggerState.ACCEPTED))
    opened.close()
    for capacity, wanted in ((20, 8), (3, 3), (20, 3)):
        again = memory(tmp_path / "m", capacity)
        assert "".join(reasons(again, names)) == names[-wanted:]
        assert again.last_trigger == LastTrigger(9, TriggerState.ACCEPTED)
        again.close()
    again = memory(tmp_path / "m", 20)
    again.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    again.close()
    again = memory(tmp_path / "m", 20)
    assert "".join(reasons(again, names)) == "arst"
    again.close()


def test_a_write_cut_at_any_byte_leaves_the_previous_record(tmp_path: Path) -> None:
    path = tmp_path / "m"
    opened = memory(path)
    opened.save_last_trigger(LastTrigger(1, TriggerState.ACCEPTED))
    opened.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    old = path.read_bytes()
    opened.save_last_trigger(LastTrigger(2, TriggerState.ACCEPTED))
    opened.save_not_passed(digest_part_id("b"), NotPassedReason.REJECTED, 1, 2)
    opened.close()
    new = path.read_bytes()
    changed = [
        at
        for at in range(0, len(new), CELL_BYTES)
        if new[at : at + CELL_BYTES] != old[at : at + CELL_BYTES]
    ]
    assert len(changed) == 2
    for at in changed:
        for cut in range(CELL_BYTES):
            mixed = new[at : at + cut] + old[at + cut : at + CELL_BYTES]
            path.write_bytes(old[:at] + mixed + old[at + CELL_BYTES :])
            again = memory(path)
            whole = mixed == new[at : at + CELL_BYTES]
            assert again.last_trigger is not None
            assert again.last_trigger.trigger_id in ((1, 2) if whole else (1,))
            assert "a" in reasons(again, "ab")
            again.close()


def test_a_file_that_is_not_this_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("schema: 1\n" * 100)
    with pytest.raises(DataError, match="is not a gateway's part memory"):
        memory(tmp_path / "text")
    memory(tmp_path / "m").close()
    with pytest.raises(DataError, match="memory of the gateway 'plc-1'"):
        memory(tmp_path / "m", name="plc-2")
    with pytest.raises(DeviceLostError, match="cannot be used"):
        memory(tmp_path / "text" / "m")


@pytest.mark.parametrize("kind", INVALID_KINDS)
def test_a_path_that_is_not_a_regular_file_is_a_data_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m"
    put_invalid_file(path, kind)
    with pytest.raises(DataError) as caught:
        memory(path)
    assert exit_code_of(caught.value) == 65


def test_invalid_records_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "m"
    opened = memory(path)
    assert (opened.is_new, opened.damaged_records) == (True, 0)
    opened.save_last_trigger(LastTrigger(1, TriggerState.ACCEPTED))
    for name in "abc":
        opened.save_not_passed(digest_part_id(name), NotPassedReason.REJECTED, 1, 2)
        opened.save_trigger(1, digest_part_id(name), 1, 2)
    opened.close()
    opened = memory(path)
    assert (opened.is_new, opened.damaged_records) == (False, 0)
    opened.close()
    data = bytearray(path.read_bytes())
    for at in range(CELL_BYTES, len(data), CELL_BYTES):
        if any(data[at : at + CELL_BYTES]):
            data[at + 5] ^= 1
    path.write_bytes(bytes(data) + b"rest")
    opened = memory(path)
    assert (opened.is_new, opened.damaged_records, opened.last_trigger) == (False, 8, None)
    opened.close()


@pytest.mark.parametrize("at", [CELL_BYTES + 10, 3 * CELL_BYTES + CELL_BYTES + 44])
def test_a_memory_of_another_version_is_refused(tmp_path: Path, at: int) -> None:
    path = tmp_path / "m"
    opened = memory(path)
    for _ in range(2):
        opened.save_last_trigger(LastTrigger(1, TriggerState.ACCEPTED))
    opened.save_not_passed(digest_part_id("a"), NotPassedReason.REJECTED, 1, 2)
    opened.close()
    data = bytearray(path.read_bytes())
    data[at] = 200
    begin = at - at % CELL_BYTES
    data[begin + CELL_BYTES - 4 : begin + CELL_BYTES] = zlib.crc32(
        data[begin : begin + CELL_BYTES - 4]
    ).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="is of another version"):
        memory(path)
