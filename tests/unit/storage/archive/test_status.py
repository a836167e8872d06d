"""An archive's word about itself: in place, whatever the disk has left, and never half read."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.alarm import alarm_code
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.services.hmi.alarm_remedies import ARCHIVE_FAILED, ARCHIVE_SILENT, remedy_for
from edgeinspect.services.hmi.archive_frames import ArchiveMonitor
from edgeinspect.storage.archive.status import (
    STATUS_FILE,
    STATUS_STALE_NS,
    ArchiveStatus,
    read_status,
    write_status,
)


@given(st.text(max_size=6_000), st.integers(0, 2**62))
def test_a_status_is_read_back_and_the_file_keeps_its_size(problem: str, count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_status(root, ArchiveStatus(at_utc_ns=7))
        size = (root / STATUS_FILE).stat().st_size
        write_status(root, ArchiveStatus(at_utc_ns=9, problem=problem, saved=count, missed=count))
        assert (root / STATUS_FILE).stat().st_size == size
        state = read_status(root)
        assert state is not None
        assert (state.saved, state.problem) == (count, problem[:500])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff" * 5_000, b'{"schema":"edgeinspect.archive/1","line":"x"}', b"[]"]
)
def test_an_unreadable_status_is_none(tmp_path: Path, content: bytes) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / STATUS_FILE).write_bytes(content)
    assert read_status(tmp_path) is None
    write_status(tmp_path / "gone", ArchiveStatus(at_utc_ns=1))  # no folder: nothing to raise


def test_the_hmi_shows_a_problem_and_its_end(tmp_path: Path) -> None:
    clock = ManualClock()
    watch = ArchiveMonitor(tmp_path, clock)
    watch.poll()
    assert watch.alarm() == "", "the archive may be starting"
    clock.advance(STATUS_STALE_NS + 1)
    assert watch.alarm() == ARCHIVE_SILENT
    write_status(tmp_path, ArchiveStatus(at_utc_ns=clock.utc_ns(), problem="No space left"))
    assert watch.alarm() == ARCHIVE_SILENT, "only its own thread reads"
    watch.poll()
    assert watch.alarm() == f"{ARCHIVE_FAILED}: No space left"
    assert "Free space" in remedy_for(alarm_code(watch.alarm()), "strip")
    write_status(tmp_path, ArchiveStatus(at_utc_ns=clock.utc_ns()))
    watch.poll()
    assert watch.alarm() == ""
    clock.advance(STATUS_STALE_NS + 1)
    assert watch.alarm() == ARCHIVE_SILENT, "it hangs, or its disk does"
    assert "edgeinspect-archive@strip" in remedy_for(alarm_code(watch.alarm()), "strip")


def test_the_monitor_polls_until_it_is_stopped(tmp_path: Path) -> None:
    watch = ArchiveMonitor(tmp_path, ManualClock())
    write_status(tmp_path, ArchiveStatus(at_utc_ns=1))
    thread = threading.Thread(target=watch.run)
    thread.start()
    end = time.monotonic() + 10
    while watch.status is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    watch.stop()
    thread.join(5)
    assert not thread.is_alive()
