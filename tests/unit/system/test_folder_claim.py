"""A claimed folder is closed to all others, also after its process was killed and restarted."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeinspect.errors import OutputError
from edgeinspect.system import CLAIM_FILE, claim_folder, is_empty_but_for_claim
from edgeinspect.system import folder_claim as module
from edgeinspect.system.files import FileLock

HOLD = """
import sys, time
from pathlib import Path
from edgeinspect.system import claim_folder
with claim_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_claim_at_a_time_which_leaves_only_the_content(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "gate"
    for _ in range(2):
        with claim_folder(folder):
            with (
                pytest.raises(OutputError, match="another process is writing") as refused,
                claim_folder(folder),
            ):
                pass
            assert str(folder) in str(refused.value)
            assert refused.value.remedy
            assert refused.value.exit_code == 73
            (folder / "run.json").write_text("{}")
        assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_folder_that_was_made_and_not_filled_is_removed_and_one_that_was_there_is_not(
    tmp_path: Path,
) -> None:
    with claim_folder(tmp_path / "new"):
        assert is_empty_but_for_claim(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with claim_folder(tmp_path / "old"):
        pass
    assert (tmp_path / "old").is_dir()
    (tmp_path / "old" / "image.png").touch()
    assert not is_empty_but_for_claim(tmp_path / "old")


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            with pytest.raises(OutputError, match="another process"), claim_folder(folder):
                pass
        finally:
            child.send_signal(signal.SIGKILL)
    assert (folder / CLAIM_FILE).exists()
    with claim_folder(folder):
        pass
    assert not (folder / CLAIM_FILE).exists()


def test_a_claim_that_ends_while_the_next_begins_is_not_held_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = tmp_path / "run", []

    def open_late(path: Path, **options: int) -> FileLock:
        lock = FileLock(path, **options)
        opened.append(path)
        if len(opened) == 1:  # the file that was opened is removed by a claim that ends
            path.unlink()
        return lock

    monkeypatch.setattr(module, "FileLock", open_late)
    with claim_folder(folder):
        assert len(opened) == 2
        with pytest.raises(OutputError), claim_folder(folder):
            pass


def test_without_locks_nothing_is_claimed_and_other_errors_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        def refuse(path: Path, **_options: int) -> FileLock:
            raise OSError(number, "refused", str(path))

        monkeypatch.setattr(module, "FileLock", refuse)

    fail(errno.ENOLCK)
    with claim_folder(tmp_path / "run"):
        pass
    fail(errno.ENOSPC)
    with pytest.raises(OutputError, match="cannot be written: refused"), claim_folder(tmp_path):
        pass
