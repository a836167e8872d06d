"""Frames that differ from the training frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.model import ModelId, ModelKind, ModelSpec, Precision
from edgeinspect.errors import DataError
from edgeinspect.learning.calibrate.frame_statistics import (
    check_frame_statistics,
    deciles,
    describe_drift,
    population_stability_index,
    reference_statistics,
)
from edgeinspect.learning.calibrate.frames import open_frames
from edgeinspect.storage.model_store import ModelStore
from tests.unit.learning.calibrate import networks

SHARED = Path(__file__).parents[4] / "engines"
GREY = np.random.default_rng(4).integers(10, 256, (24, 40), np.uint8)
DEEP = GREY.astype(np.uint16) * 16 + 3
REFERENCE = {
    "brightness": [60.0 + 10 * i for i in range(9)],
    "contrast": [8.0 + i for i in range(9)],
}


def spec(path: Path) -> ModelSpec:
    return ModelSpec(
        ModelId("tiny", 1, "0" * 64),
        ModelKind.GATE,
        path,
        FrameShape(24, 40, 1),
        "mono",
        ("defect",),
        1,
        Precision.FP32,
        {},
    )


def values(brightness: float, contrast: float, count: int = 8) -> np.ndarray:
    return np.tile([brightness, contrast, 0.5], (count, 1))


def test_frames_that_are_far_darker_than_those_of_the_training_are_refused() -> None:
    check_frame_statistics(values(70, 12), REFERENCE, "set")
    check_frame_statistics(
        values(30, 8), REFERENCE, "set"
    )  # half the light is not another bit depth
    with pytest.raises(
        DataError, match=r"differ from the training frames: their brightness is 6,.*bits"
    ):
        check_frame_statistics(values(6, 0.8), REFERENCE, "set")
    with pytest.raises(DataError, match=r"their contrast is 0\.8"):
        check_frame_statistics(values(70, 0.8), REFERENCE, "set")


def test_without_a_reference_black_frames_are_refused() -> None:
    check_frame_statistics(values(70, 12), None, "set")
    check_frame_statistics(values(5, 12), None, "set")  # bright defects before black
    with pytest.raises(DataError, match="nearly black"):
        check_frame_statistics(values(6, 2), None, "set")


def test_the_reference_is_the_training_or_a_calibration_from_it(tmp_path: Path) -> None:
    found = reference_statistics(ModelStore(SHARED).resolve("strip-gate/1"))
    assert found is not None
    deciles, frames, words = found
    assert (frames, words) == (256, "the calibration of version 2")
    assert deciles["brightness"][0] == pytest.approx(74.1, abs=0.1)
    folder = tmp_path / "strip-gate" / "1"
    folder.mkdir(parents=True)
    manifest = yaml.safe_load((SHARED / "strip-gate/1/manifest.yaml").read_text())
    manifest["training"]["statistics"] = {"pictures": 9, **REFERENCE}
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    assert reference_statistics(spec(folder / "model.onnx")) == (REFERENCE, 9, "the training")
    assert reference_statistics(spec(tmp_path / "nothing" / "model.onnx")) is None


def test_a_plain_folder_is_read_as_a_set(tmp_path: Path) -> None:
    for name, pixels in (("a", DEEP), ("b", DEEP // 8)):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    frames = open_frames(str(tmp_path), spec(tmp_path))
    assert "12 bits" in frames.note
    assert np.array_equal(frames.read(0)[:, :, 0], GREY)
    assert cv2.imwrite(str(tmp_path / "c.png"), GREY)
    with pytest.raises(DataError, match=r"8 bits \(c.png\)"):
        open_frames(str(tmp_path), spec(tmp_path))


def test_drift_is_reported_for_another_population_only() -> None:
    same, reference = networks.random_metrics(400, 1).values, networks.random_metrics(400, 2).values
    known = deciles(reference)
    assert describe_drift(same, known, 400) == []
    darker = same - [45, 0, 0]
    words = describe_drift(darker, known, 400)
    assert len(words) == 1
    assert words[0].startswith("brightness")


def test_equal_deciles_do_not_count_as_drift() -> None:
    values = np.zeros(300)
    assert population_stability_index(values, [0.0] * 9) == pytest.approx(0, abs=0.01)
