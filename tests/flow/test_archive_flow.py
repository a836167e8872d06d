"""An archiver with a running line: every image worth saving, and the right one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from edgeinspect.domain.verdict import Decision
from edgeinspect.storage.archive.format import ArchiveCategory
from edgeinspect.storage.archive.progress import LossReason
from edgeinspect.storage.archive.reader import read_losses
from tests.archive_fixture import NEAR, REJECT, LabelledCamera, RunningArchive, archived_frames
from tests.faults.harness import RunningLine

REJECTED = Decision.REJECT
SCORES = "near: {low: 0.4, high: 0.6}\npass_ratio: 0.1"


def begin(live: RunningLine, camera: LabelledCamera, running: RunningArchive) -> None:
    live.line.start()
    running.wait_until_connected()
    camera.begin.set()


def test_every_reject_and_near_threshold_image_is_saved(tmp_path: Path) -> None:
    camera = LabelledCamera(150, 300, {10: REJECT, 7: NEAR})
    live = RunningLine(tmp_path, camera=camera, budget_ms=2000, capture="{ring_slots: 64}")
    running = RunningArchive(tmp_path, live.line, SCORES)
    begin(live, camera, running)
    assert live.ended.wait(60)
    running.wait_for_cursor(300)
    assert live.stop().captured == 300
    running.stop()
    found = archived_frames(tmp_path / "archive")
    assert not running.archive.writer.progress.totals
    wanted = {
        v.seq
        for v in live.verdicts
        if v.decision is REJECTED or (v.seq % 7 == 0 and v.decision is Decision.PASS)
    }
    assert len(wanted) > 60
    assert wanted <= set(found)
    assert running.archive.writer.saved_count == len(found)
    assert 8 < len(set(found) - wanted) < 60
    for seq, (kind, pixels) in found.items():
        np.testing.assert_array_equal(pixels[:, :, None], camera.image(seq))
        if kind is not ArchiveCategory.NO_VERDICT:  # a busy machine may have overrun
            assert kind is (
                ArchiveCategory.REJECT
                if seq % 10 == 0
                else ArchiveCategory.NEAR
                if seq % 7 == 0
                else ArchiveCategory.PASS
            )


def test_what_came_while_it_was_away_is_counted_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    camera = LabelledCamera(400, 200, {5: REJECT})
    live = RunningLine(tmp_path, camera=camera, budget_ms=2000, capture="{ring_slots: 8}")
    running = RunningArchive(tmp_path, live.line, "pass_ratio: 0")
    live.line.start()
    running.wait_until_connected()
    running.wait_for_cursor(0)
    running.stop()
    camera.begin.set()
    assert live.ended.wait(60)  # the last 8 frames are in the ring still
    for _turn in range(2):
        running = RunningArchive(tmp_path, live.line, "pass_ratio: 0")
        running.wait_for_cursor(200)
        running.stop()
    rejects = live.stop().reject
    assert rejects > 10
    found = archived_frames(tmp_path / "archive")
    assert set(found) <= {190, 195, 200}
    assert found
    reported = read_losses(tmp_path / "archive")
    assert {(kind, why) for _hour, kind, why, _count in reported} == {
        ("reject", LossReason.TOO_LATE.value)
    }
    assert sum(count for *_words, count in reported) == rejects - len(found)


def test_a_new_archive_does_not_ask_for_the_past(tmp_path: Path) -> None:
    camera = LabelledCamera(400, 62, {5: REJECT})
    live = RunningLine(tmp_path, camera=camera, budget_ms=2000)
    live.line.start()
    camera.begin.set()
    assert live.ended.wait(60)
    running = RunningArchive(tmp_path, live.line)
    running.wait_for_cursor(62)
    running.stop()
    live.stop()
    assert not read_losses(tmp_path / "archive")
    with closing(sqlite3.connect(tmp_path / "archive" / "index.sqlite")) as base:
        assert base.execute("SELECT count(*) FROM frames").fetchone()[0] == 0
