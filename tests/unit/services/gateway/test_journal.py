from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeinspect.domain.plc import PlcOutcome, PlcResult
from edgeinspect.errors import DataError, DeviceLostError, exit_code_of
from edgeinspect.services.gateway.handshake import CompletedResult, ResultCompletion, ResultTotals
from edgeinspect.services.gateway.journal import (
    _HEADER,
    RECORD_BYTES,
    GatewayJournal,
    decode_record,
    encode_record,
    next_record,
)
from tests.unit.services.gateway.invalid_files import INVALID_KINDS, put_invalid_file


def completed(seq: int, completion: ResultCompletion = ResultCompletion.ACKED) -> CompletedResult:
    return CompletedResult(completion, PlcResult(seq, 7, PlcOutcome.REJECT, 10, reject_code=12), 7)


def journal(path: Path, capacity: int = 16) -> GatewayJournal:
    return GatewayJournal(path, name="plc-1", capacity=capacity)


def test_it_continues_where_it_ended(tmp_path: Path) -> None:
    first = journal(tmp_path / "j")
    assert first.cursor is None
    first.set_cursor(40, 7, 1)
    for seq in range(41, 44):
        first.append(completed(seq), seq)
    first.append(completed(44, ResultCompletion.FORCED), 44)
    first.close()
    second = journal(tmp_path / "j")
    assert second.cursor == 44
    assert second.last_record is not None
    assert second.last_record.totals.results == 4
    assert second.last_record.totals.forced == 1
    assert second.last_record.totals.last_id == 44
    assert [record.seq for record in second.read_records()] == [40, 41, 42, 43, 44]
    second.close()


def test_the_newest_records_are_kept(tmp_path: Path) -> None:
    log = journal(tmp_path / "j")
    for seq in range(1, 101):
        log.append(completed(seq), seq)
    assert [record.seq for record in log.read_records()] == list(range(85, 101))
    log.close()
    assert (tmp_path / "j").stat().st_size == _HEADER.size + 16 * RECORD_BYTES


def test_another_capacity_keeps_the_newest_records(tmp_path: Path) -> None:
    log = journal(tmp_path / "j", 64)
    for seq in range(1, 41):
        log.append(completed(seq), seq)
    log.close()
    smaller = journal(tmp_path / "j", 16)
    assert smaller.cursor == 40
    assert len(smaller.read_records()) == 16
    smaller.append(completed(41), 41)
    smaller.close()
    larger = journal(tmp_path / "j", 100)
    assert [record.seq for record in larger.read_records()] == list(range(26, 42))
    larger.close()


def test_a_sequence_reset_restarts_at_0(tmp_path: Path) -> None:
    log = journal(tmp_path / "j")
    log.append(completed(9), 1)
    log.append(CompletedResult(ResultCompletion.SEQUENCE_RESET, None, 8), 2)
    log.close()
    again = journal(tmp_path / "j")
    assert again.cursor == 0
    assert again.last_record is not None
    assert (again.last_record.epoch, again.last_record.results) == (8, 1)
    assert again.last_record.sequence_generation == log.initial_totals.sequence_generation + 1
    again.close()


def test_a_write_cut_at_any_byte_leaves_the_previous_record(tmp_path: Path) -> None:
    path = tmp_path / "j"
    log = journal(path)
    for seq in range(1, 20):
        log.append(completed(seq), seq)
    old = path.read_bytes()
    log.append(completed(20), 20)
    log.close()
    new = path.read_bytes()
    at = _HEADER.size + 20 % 16 * RECORD_BYTES
    assert new[:at] == old[:at]
    for cut in range(RECORD_BYTES + 1):
        path.write_bytes(new[: at + cut] + old[at + cut :])
        again = journal(path)
        torn = again.cursor
        again.close()
        same = new[at + cut : at + RECORD_BYTES] == old[at + cut : at + RECORD_BYTES]
        assert torn == (20 if same else 19), cut


def test_a_record_with_a_flipped_bit_is_not_valid() -> None:
    raw = encode_record(next_record(None, ResultTotals(), 5, 7, 1, completed(5)))
    assert decode_record(raw) is not None
    for at, bit in itertools.product(range(RECORD_BYTES), range(8)):
        flipped = bytearray(raw)
        flipped[at] ^= 1 << bit
        assert decode_record(bytes(flipped)) is None


def test_a_file_that_is_not_this_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("schema: 1\n" * 10)
    with pytest.raises(DataError, match="is not a gateway's journal"):
        journal(tmp_path / "text")
    journal(tmp_path / "j").close()
    with pytest.raises(DataError, match="journal of the gateway 'plc-1'"):
        GatewayJournal(tmp_path / "j", name="plc-2", capacity=16)
    with pytest.raises(DeviceLostError, match="cannot be used"):
        GatewayJournal(tmp_path / "text" / "j", name="plc-1", capacity=16)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = journal(tmp_path / "j")
    with pytest.raises(DeviceLostError, match="runs already"):
        journal(tmp_path / "j")
    first.close()
    first.close()
    journal(tmp_path / "j").close()


def test_kill_9_loses_no_appended_record(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.unit.services.gateway.test_journal import completed, journal\n"
        f"log = journal(Path({str(tmp_path / 'j')!r}), 100_000)\n"
        "for seq in range(1, 10**9):\n"
        "    log.append(completed(seq), seq)\n"
        "    if seq % 100 == 0: print(seq, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert child.stdout is not None
    reported = [int(child.stdout.readline()) for _ in range(20)][-1]
    child.kill()
    child.wait()
    child.stdout.close()
    log = journal(tmp_path / "j", 100_000)
    seqs = [record.seq for record in log.read_records()]
    log.close()
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= reported


def test_a_new_journal_keeps_its_random_sequence_generation(tmp_path: Path) -> None:
    numbers = set()
    for name in "abcdef":
        log = journal(tmp_path / name)
        assert log.is_new
        log.set_cursor(40, 7, 1)
        assert log.totals.sequence_generation == log.initial_totals.sequence_generation
        log.close()
        again = journal(tmp_path / name)
        assert again.is_new
        assert again.totals.sequence_generation == log.initial_totals.sequence_generation >= 1_000
        again.append(completed(41), 2)
        assert not again.is_new
        assert again.totals.sequence_generation == log.initial_totals.sequence_generation
        again.close()
        numbers.add(log.initial_totals.sequence_generation)
    assert len(numbers) > 1


@pytest.mark.parametrize("kind", INVALID_KINDS)
def test_a_path_that_is_not_a_regular_file_is_a_data_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m"
    put_invalid_file(path, kind)
    with pytest.raises(DataError) as caught:
        journal(path)
    assert exit_code_of(caught.value) == 65


def test_invalid_records_are_counted(tmp_path: Path) -> None:
    first = journal(tmp_path / "j")
    first.set_cursor(40, 7, 1)
    for seq in range(41, 46):
        first.append(completed(seq), seq)
    first.close()
    assert journal_of(tmp_path / "j") == (45, 0)
    with (tmp_path / "j").open("r+b") as file:
        for count in (5, 6):
            file.seek(_HEADER.size + count * RECORD_BYTES + 9)
            file.write(b"\xff\xff")
    assert journal_of(tmp_path / "j") == (43, 2)


def journal_of(path: Path) -> tuple[int | None, int]:
    """(cursor, damaged)"""
    opened = journal(path)
    opened.close()
    return opened.cursor, opened.damaged_records
