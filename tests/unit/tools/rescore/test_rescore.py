"""Rescoring: exactly one result per frame, over kills, broken images and workers that repeat."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import DataError, DeviceLostError, OutputError
from edgeinspect.registry import is_installed
from edgeinspect.services.archiver.writer import ArchiveWriter
from edgeinspect.storage.archive.format import ArchiveCategory
from edgeinspect.testing.doubles import brightness_gate, pixel_segmenter
from edgeinspect.tools.rescore.plan import RescoreFrame, chunk_result_path
from edgeinspect.tools.rescore.run import (
    RESULTS_FILE,
    SUMMARY_FILE,
    RescoreResult,
    read_results,
    rescore,
)
from edgeinspect.tools.rescore.runners import ChunkRunner, LocalRunner, NumberedChunks
from edgeinspect.tools.rescore.scorer import FrameScorer, ScorerConfig
from tests import needs
from tests.archive_fixture import config, pending_frame

SHAPE = FrameShape(16, 32, 1)
ENGINES = Path(__file__).resolve().parents[4] / "engines"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    for seq in range(1, 41):
        frame = pending_frame(seq, ArchiveCategory.REJECT if seq % 4 == 0 else ArchiveCategory.PASS)
        frame.pixels[0, 0] = seq * 6  # by `brightness_gate` the probability, of 255
        keeper.save(frame)
    keeper.close()
    return keeper.root


def run(
    source: Path, out: Path, runner: ChunkRunner | None = None, **more: object
) -> RescoreResult:
    engine = brightness_gate(SHAPE)
    config = ScorerConfig(str(source), "scripted", "ov")
    used_runner = runner or LocalRunner(FrameScorer(config, engine))
    options: dict[str, object] = {"chunk_frames": 7, **more}
    return rescore(source, out, config, engine.spec, used_runner, **options)  # type: ignore[arg-type]


def table(out: Path) -> list[dict[str, str]]:
    with (out / RESULTS_FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_frame_has_exactly_one_result(archive: Path, tmp_path: Path) -> None:
    progress_calls: list[tuple[int, int, int]] = []
    result = run(
        archive,
        tmp_path / "out",
        threshold=0.5,
        progress=lambda *figures: progress_calls.append(figures),
    )
    assert (result.frame_count, result.problem_count) == (40, 0)
    rows = table(tmp_path / "out")
    assert [row["frame"] for row in rows] == [f"t.top.7.{seq}" for seq in range(1, 41)]
    for seq, row in enumerate(rows, 1):
        assert float(row["defect_prob"]) == pytest.approx(seq * 6 / 255, rel=1e-5)
        assert row["line_says"] == ("REJECT" if seq % 4 == 0 else "PASS")
    assert result.summary["line_said_and_now"] == {
        "PASS -> PASS": 16,
        "PASS -> REJECT": 14,
        "REJECT -> PASS": 5,
        "REJECT -> REJECT": 5,
    }
    assert json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())["frames"] == 40
    assert progress_calls[0] == (0, 0, 40)
    assert progress_calls[-1] == (0, 40, 40)


def test_a_segmenter_reports_areas_by_class(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pixels = np.full(SHAPE.dims, 99, np.uint8)
    pixels[2:4, 5:9] = 2
    cv2.imwrite(str(tmp_path / "in" / "a.png"), pixels)
    engine = pixel_segmenter(SHAPE)
    config = ScorerConfig(str(tmp_path / "in"), "scripted", "ov")
    rescore(
        tmp_path / "in",
        tmp_path / "out",
        config,
        engine.spec,
        LocalRunner(FrameScorer(config, engine)),
    )
    ((frame, result),) = read_results(tmp_path / "out")
    assert (frame.name, result.area_px, result.defect_prob) == ("a.png", {"bright": 8.0}, None)


def test_a_missing_or_damaged_image_is_a_result_with_a_problem(
    archive: Path, tmp_path: Path
) -> None:
    paths = sorted(archive.glob("*/*/*.png"))
    paths[3].unlink()
    paths[5].write_bytes(b"")
    paths[9].write_bytes(paths[9].read_bytes()[:80])
    result = run(archive, tmp_path / "out")
    assert (result.frame_count, result.problem_count) == (40, 3)
    assert {row["frame"] for row in table(tmp_path / "out") if row["problem"]} == {
        paths[index].stem for index in (3, 5, 9)
    }


class RepeatingRunner:
    """A runner whose workers die after their answer, so that it comes again; in any order."""

    def __init__(self, runner: ChunkRunner) -> None:
        self._runner = runner

    def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
        results = list(self._runner.run(config, chunks)) * 2
        random.Random(5).shuffle(results)
        yield from results


def test_a_repeated_result_counts_once(archive: Path, tmp_path: Path) -> None:
    config = ScorerConfig(str(archive), "scripted", "ov")
    progress_calls: list[tuple[int, int, int]] = []
    run(
        archive,
        tmp_path / "out",
        RepeatingRunner(LocalRunner(FrameScorer(config, brightness_gate(SHAPE)))),
        progress=lambda *figures: progress_calls.append(figures),
    )
    assert progress_calls[-1] == (0, 40, 40)
    assert len(progress_calls) == 1 + 6
    names = [row["frame"] for row in table(tmp_path / "out")]
    assert names == [f"t.top.7.{seq}" for seq in range(1, 41)]


def test_a_killed_run_is_resumed(archive: Path, tmp_path: Path) -> None:
    out, counted = tmp_path / "out", tmp_path / "counted"
    plain = tmp_path / "plain"
    run(archive, plain)

    def count_and_wait() -> None:
        with counted.open("ab", buffering=0) as file:
            file.write(b".")
        time.sleep(0.004)

    for turn in range(4):
        child = os.fork()
        if child == 0:
            try:
                config = ScorerConfig(str(archive), "scripted", "ov")
                engine = brightness_gate(SHAPE, count_and_wait)
                run(archive, out, LocalRunner(FrameScorer(config, engine)), chunk_frames=3)
            finally:
                os._exit(1)
        end = time.monotonic() + 20
        while len(list(out.glob("parts/*"))) < 2 * turn + 1 and time.monotonic() < end:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    whole = len(list(out.glob("parts/*.jsonl")))
    assert 4 <= whole < 14
    calls = counted.stat().st_size
    engine = brightness_gate(SHAPE)
    config = ScorerConfig(str(archive), "scripted", "ov")
    run(archive, out, LocalRunner(FrameScorer(config, engine)), chunk_frames=3)
    assert engine.call_count == 40 - min(40, 3 * whole), "what is done is not done again"
    assert calls < 40 + 4 * 3 + 4
    assert (out / RESULTS_FILE).read_bytes() == (plain / RESULTS_FILE).read_bytes()
    engine = brightness_gate(SHAPE)
    assert (
        run(archive, out, LocalRunner(FrameScorer(config, engine)), chunk_frames=3).frame_count
        == 40
    )
    assert engine.call_count == 0


def test_frames_archived_later_do_not_change_the_plan(archive: Path, tmp_path: Path) -> None:
    class Dies:
        def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
            scorer = FrameScorer(config, brightness_gate(SHAPE))
            for number, frames in chunks:
                if number == 3:
                    raise DeviceLostError("gone")
                yield number, scorer.score_chunk(frames)

    with pytest.raises(DeviceLostError):
        run(archive, tmp_path / "out", Dies())
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    keeper.save(pending_frame(0))
    keeper.save(pending_frame(99))
    keeper.close()
    assert run(archive, tmp_path / "out").frame_count == 40
    assert run(archive, tmp_path / "new").frame_count == 42


def test_a_folder_of_other_files_is_refused(archive: Path, tmp_path: Path) -> None:
    """It may be a data set, which is read as a whole."""
    out = tmp_path / "set"
    out.mkdir()
    (out / "image.png").write_bytes(b"")
    with pytest.raises(OutputError, match="is not empty"):
        run(archive, out)
    assert {path.name for path in out.iterdir()} <= {"image.png", ".lock"}


def test_a_folder_belongs_to_one_run_and_one_process(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(archive, out)
    config = ScorerConfig(str(archive), "scripted", "trt")
    spec = brightness_gate(SHAPE).spec
    with pytest.raises(DataError, match="another backend: ov"):
        rescore(archive, out, config, spec, LocalRunner())
    with pytest.raises(DataError, match="another frames"):
        rescore(tmp_path, out, config, spec, LocalRunner())

    class Nested:
        def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
            run(archive, tmp_path / "b")
            yield from ()

    with pytest.raises(OutputError, match="another process is writing into this folder"):
        run(archive, tmp_path / "b", Nested())


@pytest.mark.parametrize("how", ["short", "long", "other"])
def test_a_damaged_result_file_is_rejected(archive: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    run(archive, out)
    path = chunk_result_path(out, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    made = {"short": lines[:-1], "long": lines + lines[-1:], "other": lines[::-1]}[how]
    path.write_bytes(b"".join(made))
    with pytest.raises(DataError, match="other frames"):
        run(archive, out)
    path.unlink()
    assert run(archive, out).frame_count == 40

    class Short:
        def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
            yield next(iter(chunks))[0], b"{}\n"

    with pytest.raises(DataError, match="1 results for 7"):
        run(archive, tmp_path / "b", Short())


def test_a_frame_is_encoded_without_loss() -> None:
    import msgspec

    frame = RescoreFrame("a", "b/c.png", "PASS", 0.5)
    row = {"chunk": 3, "frames": msgspec.json.encode([frame])}
    answer = FrameScorer(ScorerConfig("/nowhere", "m", "ov"), brightness_gate(SHAPE))(row)
    assert answer["chunk"] == 3
    assert b"cannot be read" in answer["results"]


def command(archive: Path, out: Path, *more: str) -> int:
    return main(
        [
            "rescore",
            str(archive),
            "--model",
            "strip-gate/1",
            "--store",
            str(ENGINES),
            "--out",
            str(out),
            "--backend",
            "ort",
            "--chunk",
            "4",
            *more,
        ]
    )


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    from edgeinspect.imaging.synthetic_strip import render_strip

    (tmp_path / "strips").mkdir()
    for index in range(10):
        cv2.imwrite(str(tmp_path / "strips" / f"{index}.png"), render_strip(77, index).image)
    return tmp_path / "strips"


def test_the_command_without_ray(
    strips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.library("onnxruntime")
    assert command(strips, tmp_path / "out", "--plain", "--threshold", "0.5") == 0
    assert "10 frames, 0 of them without a result" in capsys.readouterr().out
    assert command(strips, tmp_path / "out", "--plain", "--threshold", "0.5") == 0
    assert "10 of 10 frames were done in an earlier run" in capsys.readouterr().err
    assert command(tmp_path / "out", tmp_path / "none", "--plain") == 65


@pytest.mark.skipif(is_installed("ray"), reason="ray is installed")
def test_without_ray_the_extra_is_named(
    strips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs.library("onnxruntime")
    assert command(strips, tmp_path / "out") == 69
    assert "edgeinspect[ray]" in capsys.readouterr().err
