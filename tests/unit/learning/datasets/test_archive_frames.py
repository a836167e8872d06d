"""Archives as data sets: reading, corrections, and exports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.model import ModelKind
from edgeinspect.domain.verdict import Reason, UnknownCheck, UnknownState
from edgeinspect.errors import DataError, ModelError, OutputError
from edgeinspect.imaging.run_length import encode_classes
from edgeinspect.learning.calibrate.frames import open_frames
from edgeinspect.learning.datasets.archive_frames import Correction, read_corrections
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.services.archiver.writer import ArchiveWriter
from edgeinspect.storage.archive.format import ArchiveCategory
from edgeinspect.storage.archive.reader import FrameQuery
from edgeinspect.testing.doubles import model_spec, pixel_segmenter
from edgeinspect.tools.archive_export import export_dataset
from edgeinspect.wire.messages import Mask
from tests.archive_fixture import SCRATCH, config, noise_image, pending_frame

SHAPE = FrameShape(16, 32, 1)
PIT = msgspec.structs.replace(SCRATCH, class_id=1, class_name="pit")


def class_map(seq: int, class_id: int) -> np.ndarray:  # type: ignore[type-arg]
    cells = np.zeros((8, 16), np.uint8)
    cells[seq % 6 : seq % 6 + 2, 3:9] = class_id
    return cells


def mask_of(seq: int, class_id: int) -> Mask:
    runs = encode_classes(class_map(seq, class_id))
    return Mask(seq=seq, height_px=8, width_px=16, stride=2, runs=runs)


def name(seq: int) -> str:
    return f"t.top.7.{seq}"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Rejects 1 to 6 (odd: scratch, even: pit), passes 11 to 16, near 21, and unlabelled ones."""
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    for seq in range(1, 7):
        region = SCRATCH if seq % 2 else PIT
        keeper.save(pending_frame(seq, mask=mask_of(seq, region.class_id), regions=(region,)))
    for seq in range(11, 17):
        keeper.save(pending_frame(seq, ArchiveCategory.PASS))
    keeper.save(
        pending_frame(21, ArchiveCategory.NEAR, mask_of(21, 3), reason=Reason.BELOW_THRESHOLDS)
    )
    keeper.save(pending_frame(31, ArchiveCategory.NO_VERDICT))
    keeper.save(pending_frame(41, ArchiveCategory.SIMULATED))
    keeper.close()
    return keeper.root


def truth(seq: int) -> np.ndarray:  # type: ignore[type-arg]
    return class_map(seq, 3 if seq % 2 else 1).repeat(2, 0).repeat(2, 1)


def test_an_archive_is_read_in_place_as_a_data_set(archive: Path) -> None:
    data = open_dataset(archive)
    assert (data.layout, data.classes) == ("archive", ("pit", "class_2", "scratch"))
    assert data.has_masks
    bad = data.filter(lambda sample: sample.is_defective)
    assert [sample.name for sample in bad] == [f"{name(seq)}.png" for seq in range(1, 7)]
    assert len(data) == 13
    for seq, sample in enumerate(bad, 1):
        np.testing.assert_array_equal(sample.read_mask(16, 32), truth(seq))
    assert any("without a verdict" in note for note in data.notes)
    assert any("challenge" in note for note in data.notes)


@pytest.mark.parametrize("layout", ["mask-folder", "severstal"])
def test_an_exported_set_reads_back_unchanged(archive: Path, tmp_path: Path, layout: str) -> None:
    out = tmp_path / "set"
    done = export_dataset(archive, out, layout, FrameQuery(), {})
    assert (done.image_count, done.defective_count) == (13, 6)
    data = open_dataset(out)
    assert data.layout == layout.replace("-", "_")
    assert data.classes == ("pit", "class_2", "scratch")
    assert len(data) == 13
    for sample in data.samples:
        seq = int(Path(sample.name).stem.rpartition(".")[2])
        assert sample.is_defective == (seq < 10)
        expected = truth(seq) if seq < 10 else np.zeros((16, 32), np.uint8)
        np.testing.assert_array_equal(sample.read_mask(16, 32), expected)
        pixels = cv2.imread(str(sample.path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(pixels[:, :, None], noise_image(seq))  # type: ignore[index]
    assert main(["data", "inspect", str(out), "--json"]) == 0


def test_only_some_are_exported(archive: Path, tmp_path: Path) -> None:
    wanted = FrameQuery(kinds=(ArchiveCategory.REJECT, ArchiveCategory.PASS), label="pit")
    assert export_dataset(archive, tmp_path / "pits", "severstal", wanted, {}).image_count == 3
    with pytest.raises(DataError, match="no defective frame"):
        export_dataset(
            archive, tmp_path / "good", "severstal", FrameQuery(kinds=(ArchiveCategory.PASS,)), {}
        )
    assert not (tmp_path / "good").exists()
    with pytest.raises(OutputError, match="not empty"):
        export_dataset(archive, tmp_path / "pits", "severstal", wanted, {})


def test_corrections_override_verdicts(archive: Path, tmp_path: Path) -> None:
    drawn = np.zeros((16, 32), np.uint8)
    drawn[2:5, 2:9] = 255
    cv2.imwrite(str(tmp_path / "m.png"), drawn)
    (tmp_path / "corrections.csv").write_text(
        "frame,label,mask\n"
        f"{name(1)},Good,\n{name(2)}.png,scratch,\n{name(3)},DROP,\n{name(11)},dent,m.png\n"
        f"{name(31)},good,\n{name(4)},,\n"
    )
    done = export_dataset(
        archive,
        tmp_path / "set",
        "mask-folder",
        FrameQuery(),
        read_corrections(tmp_path / "corrections.csv"),
    )
    assert done.classes == ("pit", "class_2", "scratch", "dent")
    found = {sample.name: sample for sample in open_dataset(tmp_path / "set").samples}
    assert not found[f"{name(1)}.png"].is_defective
    assert f"{name(3)}.png" not in found
    assert not found[f"{name(31)}.png"].is_defective
    second = found[f"{name(2)}.png"].read_mask(16, 32)
    np.testing.assert_array_equal(second, np.where(truth(2) > 0, 3, 0))
    np.testing.assert_array_equal(found[f"{name(11)}.png"].read_mask(16, 32), drawn // 255 * 4)
    # The written table can be used as corrections.
    again = export_dataset(
        archive,
        tmp_path / "again",
        "severstal",
        FrameQuery(),
        read_corrections(tmp_path / "set" / "labels.csv"),
    )
    assert (again.image_count, again.defective_count) == (done.image_count, done.defective_count)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,label\na,b\n", "no columns"),
        ("frame,label\na,good\na,drop\n", "contradicts an earlier row"),
        ("frame,label,mask\na,pit,not-there.png\n", "mask not-there.png does not exist"),
        ("frame,label\na,Good\na,DROP\n", "contradicts an earlier row"),
        ("frame,label\na,ok\n", "means good and is not a defect class"),
        ("frame,label\na,i.O.\n", "means good and is not a defect class"),
    ],
)
def test_invalid_corrections_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "corrections.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_corrections(tmp_path / "corrections.csv")


def test_a_correction_of_an_unknown_frame_is_an_error(archive: Path) -> None:
    (archive / "corrections.csv").write_text("frame,label\nt.top.7.999,good\n")
    with pytest.raises(DataError, match="not in the archive: t"):
        open_dataset(archive)
    (archive / "corrections.csv").write_text(f"frame,label\n{name(1)},good\n")
    assert sum(sample.is_defective for sample in open_dataset(archive).samples) == 5


def test_verdicts_of_models_with_other_classes_are_refused(tmp_path: Path) -> None:
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    keeper.save(pending_frame(1))
    keeper.save(pending_frame(2, regions=(msgspec.structs.replace(SCRATCH, class_name="patch"),)))
    keeper.close()
    with pytest.raises(DataError, match="class 3 is"):
        open_dataset(keeper.root)


def test_rejects_without_masks_are_skipped_or_predicted(tmp_path: Path) -> None:
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    for seq in (1, 2, 3):  # without masks
        keeper.save(pending_frame(seq, regions=()))
    painted = pending_frame(4, regions=())
    painted.pixels[:] = 99
    painted.pixels[3:6, 4:8] = 2
    keeper.save(painted)
    keeper.save(pending_frame(11, ArchiveCategory.PASS))
    keeper.close()
    data = open_dataset(keeper.root)
    assert (data.has_masks, data.classes) == (False, ("defect",))
    with pytest.raises(DataError, match="4 defective frames have no mask"):
        export_dataset(keeper.root, tmp_path / "a", "severstal", FrameQuery(), {})
    engine, message = pixel_segmenter(SHAPE), {name(1): Correction("good")}
    done = export_dataset(keeper.root, tmp_path / "b", "severstal", FrameQuery(), message, engine)
    assert done.classes == ("dark", "bright")
    found = {sample.name: sample for sample in open_dataset(tmp_path / "b").samples}
    assert {f"{name(1)}.png", f"{name(4)}.png", f"{name(11)}.png"} <= set(found)
    expected = np.where(painted.pixels[:, :, 0] == 2, 2, 0)
    np.testing.assert_array_equal(found[f"{name(4)}.png"].read_mask(16, 32), expected)


def test_a_class_that_is_a_path_is_refused(archive: Path, tmp_path: Path) -> None:
    message = {name(11): Correction("../dent")}
    with pytest.raises(DataError, match="cannot be a folder name"):
        export_dataset(archive, tmp_path / "a", "mask-folder", FrameQuery(), message)
    assert not list(tmp_path.glob("*dent*"))


def test_a_gate_predicts_no_masks(archive: Path, tmp_path: Path) -> None:
    from edgeinspect.testing.doubles import brightness_gate

    with pytest.raises(ModelError, match="not a segmenter"):
        export_dataset(
            archive, tmp_path / "a", "severstal", FrameQuery(), {}, brightness_gate(SHAPE)
        )


def test_calibration_takes_an_archive(archive: Path) -> None:
    spec = model_spec(ModelKind.GATE, SHAPE)
    frames = open_frames(str(archive), spec, labelled=True)
    assert len(frames) == 13
    assert frames.read_label is not None
    assert sum(frames.read_label(number).is_defective for number in range(13)) == 6
    assert frames.read(0).shape == SHAPE.dims
    segmenter = model_spec(ModelKind.SEGMENTER, SHAPE, ("pit", "class_2", "scratch"))
    labelled = open_frames(str(archive), segmenter, labelled=True)
    assert labelled.read_label is not None
    np.testing.assert_array_equal(labelled.read_label(0).mask, truth(1))  # type: ignore[arg-type]


def test_the_commands(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "list", str(archive), "--kind", "reject", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seq"] for row in rows] == [6, 5, 4, 3, 2, 1]
    assert main(["archive", "list", str(archive)]) == 0
    assert "t.top.7.41" in capsys.readouterr().out
    assert main(["archive", "list", str(archive), "--lost"]) == 0
    assert main(["archive", "show", str(archive), "5"]) == 0
    assert "scratch 0.90" in capsys.readouterr().out
    assert main(["archive", "show", str(archive), "999"]) == 65
    assert main(["archive", "check", str(archive)]) == 0
    out = str(tmp_path / "set")
    capsys.readouterr()
    assert main(["archive", "export", str(archive), "--out", out, "--layout", "severstal"]) == 0
    assert capsys.readouterr().out.startswith("13 images, 6 of them defective")
    assert main(["archive", "list", str(tmp_path)]) == 65


def test_kinds_and_marks_of_a_good_parts_model(tmp_path: Path) -> None:
    """A gate's kind is a class; what is for review is no good part until a person says so."""
    keeper = ArchiveWriter(config(tmp_path), ManualClock())
    gate = {"reason": Reason.GATE, "regions": ()}
    first = pending_frame(1, **gate)
    keeper.save(replace(first, verdict=msgspec.structs.replace(first.verdict, kind="burr")))
    keeper.save(pending_frame(2, **gate))
    keeper.save(pending_frame(3, ArchiveCategory.PASS))
    for seq in (4, 5):
        mark = UnknownCheck(UnknownState.ASKED, 0.9, review=True)
        keeper.save(pending_frame(seq, ArchiveCategory.PASS, unknown=mark))
    keeper.close()
    data = open_dataset(keeper.root)
    assert data.classes == ("burr",)
    found = {sample.name.split(".")[3]: sample for sample in data.samples}
    assert list(found) == ["1", "2", "3"]
    assert (found["1"].class_name, found["1"].class_ids) == ("burr", (1,))
    assert (found["2"].is_defective, found["2"].class_ids) == (True, ())
    assert not found["3"].is_defective
    assert any("2 frames are skipped: passed, for review" in note for note in data.notes)
