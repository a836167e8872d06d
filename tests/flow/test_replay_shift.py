"""A recorded shift inspected again: equal verdicts, and the differences where something changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import needs

needs.library("mcap")

from edgeinspect.cli.main import main
from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import Grab
from edgeinspect.domain.latency import LatencyEstimate
from edgeinspect.domain.verdict import Decision, ModelRef, Reason, UnknownState
from edgeinspect.errors import DataError, ModelError
from edgeinspect.pipeline.inspection import UnknownLimits
from edgeinspect.storage.recording.messages import (
    ClockReading,
    MissedVerdicts,
    RecordedConfiguration,
)
from edgeinspect.storage.recording.reader import RecordedFrame, open_recording
from edgeinspect.storage.shared_memory.side_buffer import SideBufferReader
from edgeinspect.tools.replay.compare import CONTEXT_FIELDS, NOT_COMPARED, RESULT_FIELDS
from edgeinspect.tools.replay.engine_selection import ReplayOverrides
from edgeinspect.tools.replay.replay import NO_HISTORY, replay_recording
from tests.flow.line_harness import RULES, SHAPE, LineHarness
from tests.flow.recorded_shift import HASH, RecordedShift, everything, scripted


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeinspect.tools.replay.engine_selection.load_engine", scripted)


@pytest.fixture
def shift(tmp_path: Path) -> RecordedShift:
    return RecordedShift(tmp_path, tmp_path / "a.mcap")


def verdict_reasons(path: Path) -> set[str]:
    return {
        item.verdict.reason.value
        for item in open_recording(path).items()
        if isinstance(item, RecordedFrame)
    }


def test_each_field_of_a_verdict_is_compared_or_excluded() -> None:
    from edgeinspect.domain.verdict import Verdict

    assert sorted(RESULT_FIELDS + CONTEXT_FIELDS + NOT_COMPARED) == sorted(
        Verdict.__struct_fields__
    )


def test_every_kind_of_verdict_is_reproduced(shift: RecordedShift, tmp_path: Path) -> None:
    everything(shift)
    shift.finish()
    path = tmp_path / "a.mcap"
    reasons = {reason.value for reason in Reason} - {"capture_health"}
    assert verdict_reasons(path) == reasons
    found = replay_recording(path, ReplayOverrides())
    assert found.differences == []
    assert (found.frames, found.equal) == (found.compared, found.compared)
    assert found.decided_by == {"image": 13, "time": 5, "camera": 2, "engine": 1, "end": 2}
    assert found.degraded == 2
    # Frames that had no time are inspected now, outside the comparison.
    assert found.opinions == {
        "deadline": {"PASS": 2},
        "overrun": {"PASS": 3},
        "engine_error": {"PASS": 1},
    }
    assert found.cuts == []
    assert found.models == found.recorded_models


def test_a_letterboxed_frame_is_replayed_from_the_cameras_image(tmp_path: Path) -> None:
    shift = RecordedShift(tmp_path, tmp_path / "a.mcap", letterbox=True)
    for shape in ((16, 16, 1), (32, 32, 1), (8, 16, 1), (4, 8, 1)):
        shift.inspect(shift.harness.grab(180, shape))
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.compared, found.equal) == (4, 4)


def test_a_changed_pixel_is_detected(shift: RecordedShift, tmp_path: Path) -> None:
    shift.inspect(shift.harness.grab(10))
    frame = shift.accept(shift.defect(180, 2, part_id="p-2"))
    pixels = shift._pixels[frame.seq]
    assert pixels is not None
    pixels[2, 3] = 0
    while shift.harness.run_worker():
        pass
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.compared, found.equal, found.different) == (2, 1, 1)
    entry = found.differences[0]
    assert (entry.seq, entry.part_id, entry.fields) == (frame.seq, "p-2", ("regions",))
    assert main(["replay", str(tmp_path / "a.mcap")]) == 65


def test_other_thresholds_are_no_error(
    shift: RecordedShift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything(shift)
    shift.finish()
    path = str(tmp_path / "a.mcap")
    change = "decide.classes.bright.area_px=7"
    assert main(["replay", path, "--set", change, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changes"] == [change]
    assert found["different"] == 1
    assert found["decisions"]["REJECT"] == {"REJECT": 3, "PASS": 1}
    assert found["classes"]["bright"] == {"recorded": 1, "replayed": 0, "gained": 0, "lost": 1}
    assert main(["replay", path, "--set", change]) == 0
    out = capsys.readouterr().out
    assert "1 decided differently" in out
    assert "REJECT defect bright" in out
    assert "p-2" in out


def test_another_model_replaces_the_one_of_its_kind(
    shift: RecordedShift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(shift)
    shift.finish()
    built: list[str] = []

    def make(choice: object, clock: object, store: object) -> object:
        built.append(choice.options.model)  # type: ignore[attr-defined]
        return scripted(choice, clock, store)

    monkeypatch.setattr("edgeinspect.tools.replay.engine_selection.load_engine", make)
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides({"gate": "scripted-gate/9"}))
    assert sorted(built) == ["scripted-gate/9", "scripted-segmenter/1"]
    assert (found.has_overrides, found.different) == (True, 0)


def test_a_model_of_that_name_with_other_weights_is_refused(tmp_path: Path) -> None:
    shift = RecordedShift(tmp_path, tmp_path / "a.mcap")
    shift.set_models(ModelRef("scripted-gate", 1, "f" * 64), None)
    shift.inspect(shift.harness.grab(10))
    shift.finish()
    with pytest.raises(ModelError, match="is not the model that was recorded"):
        replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides({"gate": "scripted-gate/1"}))
    assert found.equal == 1


def test_a_reload_in_the_recording_changes_the_inspector(tmp_path: Path) -> None:
    shift = RecordedShift(tmp_path, tmp_path / "a.mcap")
    shift.inspect(shift.defect(180, 2))
    text = shift.text.replace("area_px: 2,", "area_px: 7,")
    shift.writer.write_configuration(RecordedConfiguration(hash="second", text=text), 5)
    before = shift.harness.worker.inspector
    causes = before.provenance
    from dataclasses import replace

    limits = replace(before.rules.classes[2], area_px=7.0)
    before.rules = replace(before.rules, classes={**before.rules.classes, 2: limits})
    before.provenance = replace(causes, config_hash="second")
    shift.inspect(shift.defect(180, 2))
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.compared, found.equal) == (2, 2)
    assert found.decisions == {"REJECT": {"REJECT": 1}, "PASS": {"PASS": 1}}


def test_a_frame_without_its_image_is_skipped_and_counted(tmp_path: Path) -> None:
    shift = RecordedShift(tmp_path, tmp_path / "a.mcap")
    shift.inspect(shift.harness.grab(10))
    shift.accept(shift.harness.grab(10))
    while shift.harness.run_worker():
        pass
    shift.write(without_image=True)
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.frames, found.compared) == (2, 1)
    assert found.not_compared == {"no image recorded: none": 1}


@pytest.mark.parametrize("recorded_from", [1, 5])
def test_frozen_images_need_the_images_before(tmp_path: Path, recorded_from: int) -> None:
    shift = RecordedShift(tmp_path, tmp_path / "a.mcap", frozen_frames=3)
    from edgeinspect.pipeline.capture.image_checks import ImageChecker, ImageLimits

    harness = shift.harness
    harness.capture._image_checker = ImageChecker(ImageLimits(0, 255, 3))
    pixels = np.random.default_rng(1).integers(0, 99, SHAPE.dims, np.uint8)
    for number in range(1, 10):
        frame = harness.capture.accept(Grab(pixels, number, harness.clock.now_ns()))
        shift._pixels[frame.seq] = pixels
        while harness.run_worker():
            pass
    shift._next = recorded_from
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert found.different == 0
    if recorded_from == 1:
        assert (found.compared, found.not_compared) == (9, {})
        assert found.decisions["NO_VERDICT"] == {"NO_VERDICT": 6}
    else:  # three had to be seen again before it is known that they are frozen
        assert found.not_compared == {NO_HISTORY: 3}
        assert found.compared == 2


def test_missed_frames_and_clock_steps_are_reported(
    shift: RecordedShift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shift.inspect(shift.harness.grab(10))
    clock = shift.harness.clock
    shift.writer.write_clock(
        ClockReading(mono_ns=clock.now_ns(), utc_ns=clock.utc_ns() + 1_000_000)
    )
    clock.utc_offset_ns -= 3_600_000_000_000  # set back by an hour
    shift.writer.write_clock(ClockReading(mono_ns=clock.now_ns(), utc_ns=clock.utc_ns()))
    shift.writer.write_missed(MissedVerdicts(from_seq=2, to_seq=4), 1)
    shift._next = 5
    for _ in range(4):
        shift.inspect(shift.harness.grab(10))
    shift.finish()
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.frames, found.equal, found.missed, found.clock_steps) == (2, 2, 3, 1)
    assert any(words.startswith("processor: recorded on none") for words in found.other_machine)
    assert main(["replay", str(tmp_path / "a.mcap")]) == 0
    out = capsys.readouterr().out
    assert "not recorded: 3 verdicts missed by the recorder" in out
    assert "the wall clock was set 1 times" in out


def test_the_times_between_the_frames_can_be_kept(
    shift: RecordedShift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        shift.inspect(shift.harness.grab(10))  # each takes the gate's 10 ms and 20 ms more
    shift.finish()
    now_ns, slept = [10**9], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now_ns[0] += round(seconds * 1e9)

    monkeypatch.setattr("edgeinspect.tools.replay.replay.time.sleep", sleep)
    monkeypatch.setattr("edgeinspect.tools.replay.replay.time.monotonic_ns", lambda: now_ns[0])
    assert replay_recording(tmp_path / "a.mcap", ReplayOverrides(), real_time=True).equal == 5
    assert slept == [0.03] * 4
    slept.clear()
    assert replay_recording(tmp_path / "a.mcap", ReplayOverrides()).equal == 5
    assert slept == []


def test_images_outside_the_ring_are_in_the_side_buffer_while_requested(tmp_path: Path) -> None:
    harness = LineHarness(tmp_path, letterbox=True)
    harness.capture.accept(harness.grab(1, (32, 32, 1)))
    reader = SideBufferReader(harness.ring.path.with_suffix(".aside"), 4, 4096)
    reader.request(harness.clock.now_ns())
    boxed = harness.capture.accept(harness.grab(2, (32, 32, 1)))
    plain = harness.capture.accept(harness.grab(3))
    bad = harness.capture.accept(harness.grab(4, (8, 16, 3)))
    for frame, first in ((boxed, 2), (bad, 4)):
        kept = reader.read(frame.seq)
        assert kept is not None
        assert kept.flat[0] == first
    assert reader.read(plain.seq) is None
    assert reader.read(1) is None
    reader.close()
    harness.close()


def test_a_cut_recording_is_replayed_up_to_the_cut(shift: RecordedShift, tmp_path: Path) -> None:
    for _ in range(4):
        shift.inspect(shift.harness.grab(10))
        shift.writer.flush()
    shift.writer.close_unfinished()
    shift.harness.close()
    data = (tmp_path / "a.mcap").read_bytes()
    (tmp_path / "a.mcap").write_bytes(data[:-100])
    found = replay_recording(tmp_path / "a.mcap", ReplayOverrides())
    assert (found.compared, found.equal) == (3, 3)
    assert len(found.cuts) == 1


def test_impossible_records_are_refused(tmp_path: Path) -> None:
    import msgspec

    from edgeinspect.storage.recording.messages import FrameRecord

    cases = {"camera": "other", "clock_source": "sundial", "camera_frame_id": 1 << 63}
    for number, (field, value) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        shift = RecordedShift(folder, folder / "a.mcap")
        frame = shift.harness.capture.accept(shift.harness.grab(10))
        shift.harness.run_worker()
        body = msgspec.json.decode(shift.harness.spool.read(frame.seq) or b"")
        body[field] = value
        record = FrameRecord(
            verdict=msgspec.json.encode(body),
            dims=(8, 16, 1),
            packing="left+zstd",
            pixels=shift._packer.pack(np.zeros(SHAPE.dims, np.uint8)),
        )
        shift.writer.write_frame(record, "top", 1, 1)
        shift._next = 9
        shift.finish()
        with pytest.raises(DataError):
            replay_recording(folder / "a.mcap", ReplayOverrides())


def test_the_command_line(
    shift: RecordedShift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything(shift)
    shift.finish()
    path = str(tmp_path / "a.mcap")
    assert main(["replay", path, "--export", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "23 compared, 23 equal, 0 different: every verdict equals the recorded one" in out
    assert "inspected now: 3 PASS" in out
    lines = (tmp_path / "out" / "verdicts.jsonl").read_bytes().splitlines()
    assert len(lines) == 23
    assert len(list((tmp_path / "out").glob("*.png"))) == 21
    assert main(["replay", path, "--export", str(tmp_path)]) == 73
    assert "is not empty" in capsys.readouterr().err
    assert main(["replay", path, "--verdicts", "-"]) == 0
    message = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["seq"] for each in message] == list(range(1, 24))
    assert sum(each["decision"] == Decision.NO_VERDICT.value for each in message) == 11
    assert main(["replay", str(tmp_path / "none.mcap")]) == 65
    (tmp_path / "bad.mcap").write_bytes(b"no recording at all")
    assert main(["replay", str(tmp_path / "bad.mcap")]) == 65
    assert HASH  # the configuration is found by it


# -- a good-parts model -----------------------------------------------------------------------

UNKNOWN = UnknownLimits("unknown", 3, 0.5, 3, 6, 66, True, False, 1)


def unknown_shift(folder: Path, path: Path) -> RecordedShift:
    rules = replace(RULES, unknown=UNKNOWN)
    return RecordedShift(folder, path, with_unknown=True, rules=rules)


def marked(shift: RecordedShift, first: int, last: int, unknown: int) -> Grab:
    grab = shift.harness.grab(first)
    assert grab.pixels is not None
    grab.pixels[3, 2 : 2 + unknown] = 77
    grab.pixels.flat[-1] = last
    return grab


def test_verdicts_with_a_good_parts_model_are_reproduced(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    shift = unknown_shift(tmp_path, path)
    for first, last, unknown in ((0, 0, 0), (0, 200, 4), (0, 200, 2), (140, 150, 5), (250, 200, 4)):
        shift.inspect(marked(shift, first, last, unknown))
    shift.inspect(shift.defect(140, 2))
    for _ in range(40):
        shift.inspect(marked(shift, 0, 0, 0))
    inspector = shift.harness.worker.inspector
    inspector.segmenter_time, kept = LatencyEstimate(), inspector.segmenter_time
    inspector.segmenter_time.add(500 * NS_PER_MS)
    shift.inspect(marked(shift, 140, 200, 2))  # no time to segment, and enough for the third
    shift.inspect(marked(shift, 200, 200, 2))
    inspector.segmenter_time = kept
    shift.harness.gate_ms = 90
    shift.inspect(marked(shift, 0, 200, 8))
    shift.harness.gate_ms, shift.harness.segmenter_ms = 10, 80
    shift.harness.worker.inspector.segmenter_time = LatencyEstimate()
    shift.inspect(marked(shift, 140, 200, 8))
    shift.finish()
    verdicts = [
        item.verdict for item in open_recording(path).items() if isinstance(item, RecordedFrame)
    ]
    checks = [verdict.unknown_check for verdict in verdicts]
    degraded = [verdict for verdict in verdicts if verdict.degraded]
    assert [verdict.unknown_check and verdict.unknown_check.state for verdict in degraded] == [
        UnknownState.ASKED,
        UnknownState.NOT_NEEDED,
    ]
    states = [check.state.value for check in checks if check is not None]
    assert {"asked", "not_needed", "no_time"} == set(states)
    assert [verdict.segmenter is not None for verdict in verdicts[-2:]] == [False, True]
    assert states[-2:] == ["no_time", "no_time"]
    assert sum(verdict.reject_code == 66 for verdict in verdicts) == 2
    found = replay_recording(path, ReplayOverrides())
    assert found.differences == []
    assert found.equal == found.frames == len(verdicts)
    assert found.models == found.recorded_models
    assert found.models["unknown"] == ["scripted-unknown/1"]
    changed = replay_recording(path, ReplayOverrides(settings=["decide.unknown.reject_at=0.99"]))
    assert len(changed.differences) > 0
