"""An archive's word about itself: in place, whatever the disk has left, and never half read."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.services.hmi.alarm_remedies import BROKEN_ARCHIVE, SILENT_ARCHIVE, remedy
from edgeinspect.services.hmi.archive_frames import ArchiveWatch
from edgeinspect.storage.archive.status import (
    STALE_NS,
    STATE,
    ArchiveState,
    read_state,
    write_state,
)


@given(st.text(max_size=6_000), st.integers(0, 2**62))
def test_what_is_told_is_read_and_the_file_keeps_its_size(problem: str, count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_state(root, ArchiveState(at_utc_ns=7))
        size = (root / STATE).stat().st_size
        write_state(root, ArchiveState(at_utc_ns=9, problem=problem, saved=count, missed=count))
        assert (root / STATE).stat().st_size == size
        state = read_state(root)
        assert state is not None
        assert (state.saved, state.problem) == (count, problem[:500])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff" * 5_000, b'{"schema":"edgeinspect.archive/1","line":"x"}', b"[]"]
)
def test_what_cannot_be_read_is_no_word(tmp_path: Path, content: bytes) -> None:
    assert read_state(tmp_path) is None
    (tmp_path / STATE).write_bytes(content)
    assert read_state(tmp_path) is None
    write_state(tmp_path / "gone", ArchiveState(at_utc_ns=1))  # no folder: nothing to raise


def test_the_page_says_what_is_wrong_and_when_it_is_right_again(tmp_path: Path) -> None:
    clock = ManualClock()
    watch = ArchiveWatch(tmp_path, clock)
    watch.look()
    assert watch.alarm() == "", "the archive may be starting"
    clock.advance(STALE_NS + 1)
    assert watch.alarm() == SILENT_ARCHIVE
    write_state(tmp_path, ArchiveState(at_utc_ns=clock.utc_ns(), problem="No space left"))
    assert watch.alarm() == SILENT_ARCHIVE, "only its own thread reads"
    watch.look()
    assert watch.alarm() == f"{BROKEN_ARCHIVE}: No space left"
    assert "Free space" in remedy(watch.alarm(), "strip")
    write_state(tmp_path, ArchiveState(at_utc_ns=clock.utc_ns()))
    watch.look()
    assert watch.alarm() == ""
    clock.advance(STALE_NS + 1)
    assert watch.alarm() == SILENT_ARCHIVE, "it hangs, or its disk does"
    assert "edgeinspect-archive@strip" in remedy(watch.alarm(), "strip")


def test_it_looks_by_itself_until_it_is_stopped(tmp_path: Path) -> None:
    watch = ArchiveWatch(tmp_path, ManualClock())
    write_state(tmp_path, ArchiveState(at_utc_ns=1))
    thread = threading.Thread(target=watch.run)
    thread.start()
    end = time.monotonic() + 10
    while watch.state is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    watch.stop()
    thread.join(5)
    assert not thread.is_alive()
