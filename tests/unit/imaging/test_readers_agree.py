"""All readers of images return the same pixels, also for 12 bits in files of 16."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.cameras.folder import FolderCamera, Options
from edgeinspect.domain.clock import NS_PER_S, SystemClock
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.model import ModelId, ModelKind, ModelSpec, Precision
from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.calibrate.frames import open_frames
from edgeinspect.learning.evaluate.explain.explanation import read_frames
from edgeinspect.learning.onnx_graphs.importer.samples import read_samples
from edgeinspect.pipeline.capture.commands import CommandHandler
from edgeinspect.system.regular_file import escape_name
from edgeinspect.tools.bench.memory_camera import folder_images
from edgeinspect.tools.rescore.plan import open_plan, read_chunks
from edgeinspect.tools.rescore.scorer import FrameScorer, ScorerConfig

HEIGHT, WIDTH = 24, 40
GREY = np.random.default_rng(4).integers(10, 256, (HEIGHT, WIDTH), np.uint8)
DEEP = GREY.astype(np.uint16) * 16 + 3
SHAPE = FrameShape(HEIGHT, WIDTH, 1)


def spec(color: str = "mono") -> ModelSpec:
    return ModelSpec(
        ModelId("tiny", 1, "0" * 64),
        ModelKind.GATE,
        Path("model.onnx"),
        replace(SHAPE, channels=1 if color == "mono" else 3),
        color,
        ("defect",),
        1,
        Precision.FP32,
        {},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dark and a light image of a 12-bit camera."""
    images = tmp_path / "images"
    images.mkdir()
    for name, pixels in (("a", DEEP // 8), ("b", DEEP)):
        assert cv2.imwrite(str(images / f"{name}.png"), pixels)
    return images


def by_folder_camera(folder: Path, **options: Any) -> list[np.ndarray]:
    camera = FolderCamera(Options(path=str(folder), pace="max", **options), SystemClock())
    camera.open()
    grabs = [camera.grab(10 * NS_PER_S), camera.grab(10 * NS_PER_S)]
    camera.close()
    return [grab.pixels for grab in grabs if grab is not None and grab.pixels is not None]


def by_rescore(folder: Path) -> list[np.ndarray]:
    seen: list[np.ndarray] = []

    def infer(image: np.ndarray) -> tuple[np.ndarray]:
        seen.append(image.copy())
        return (np.array([0.5], np.float32),)

    engine: Any = SimpleNamespace(spec=spec(), infer=infer)
    scorer = FrameScorer(ScorerConfig(str(folder), "tiny", "ov"), engine)
    out = folder.parent / "run"
    open_plan(out, folder, model="tiny", sha256="0", backend="ov", chunk_frames=4)
    for _number, frames in read_chunks(out):
        scorer.score_chunk(frames)
    return seen


def by_calibrate(folder: Path) -> list[np.ndarray]:
    frames = open_frames(str(folder), spec())
    return [frames.read(number) for number in range(len(frames))]


def by_import(folder: Path) -> list[np.ndarray]:
    request: Any = SimpleNamespace(channels=1, frame_color="mono", height_px=HEIGHT, width_px=WIDTH)
    return [pixels for _name, pixels in read_samples(folder, request, 9)]


READERS = {
    "folder camera": lambda folder: by_folder_camera(folder, bits=12),
    "rescore": by_rescore,
    "calibrate": by_calibrate,
    "import": by_import,
    "explain": lambda folder: [frame for _name, frame in read_frames([folder], spec())],
    "bench": lambda folder: folder_images(folder, 9, SHAPE, "mono"),
}


@pytest.mark.parametrize("reader", READERS)
def test_all_readers_scale_12_bits_alike(folder: Path, reader: str) -> None:
    dark, light = READERS[reader](folder)
    assert np.array_equal(light[:, :, 0], GREY)
    assert np.array_equal(dark[:, :, 0], DEEP // 8 // 16)


@pytest.mark.parametrize("reader", [name for name in READERS if name != "folder camera"])
def test_mixed_depths_are_an_error_in_all_readers(folder: Path, reader: str) -> None:
    assert cv2.imwrite(str(folder / "c.png"), GREY)
    with pytest.raises(DataError, match=r"1 of 3 images have 8 bits \(c.png\)"):
        READERS[reader](folder)


def test_colour_is_converted_to_the_same_grey(tmp_path: Path) -> None:
    colour = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for name in ("a", "b"):
        assert cv2.imwrite(str(tmp_path / f"{name}.jpg"), colour)
    seen = [by_folder_camera(tmp_path), by_calibrate(tmp_path), by_import(tmp_path)]
    for first, _second in seen:
        assert np.array_equal(first, seen[0][0])


def twelve_bit_camera(folder: Path) -> FolderCamera:
    return FolderCamera(Options(path=str(folder), bits=12), SystemClock())


def inject_challenge(folder: Path, image: str, camera: object) -> np.ndarray:
    sent: list[tuple[np.ndarray, str]] = []
    capture: Any = SimpleNamespace(
        camera=camera,
        rules=SimpleNamespace(camera="top"),
        inject_challenge=lambda pixels, name: sent.append((pixels, name)),
    )
    CommandHandler([capture], "mono", str(folder), SystemClock()).read_challenge("top", image)()
    ((pixels, name),) = sent
    assert name == image
    return pixels


def test_a_challenge_image_is_read_with_the_settings_of_its_camera(folder: Path) -> None:
    with pytest.raises(UsageError, match="16 bits per pixel"):
        inject_challenge(folder, "b.png", object())
    seen = inject_challenge(folder, "b.png", twelve_bit_camera(folder))
    assert np.array_equal(seen[:, :, 0], GREY)
    (folder / "reading.yaml").write_text("bits: 12\n")
    assert np.array_equal(inject_challenge(folder, "a.png", object())[:, :, 0], DEEP // 8 // 16)


def test_a_challenge_image_may_be_given_by_path_or_escaped_name(folder: Path) -> None:
    camera = twelve_bit_camera(folder)
    seen: list[str] = []
    capture: Any = SimpleNamespace(
        camera=camera,
        rules=SimpleNamespace(camera="top"),
        inject_challenge=lambda pixels, name: seen.append(name),
    )
    latin = os.fsencode(folder) + b"/bl\xe4.png"
    Path(os.fsdecode(latin)).write_bytes((folder / "b.png").read_bytes())
    handler = CommandHandler([capture], "mono", str(folder), SystemClock())
    for name in ("b.png", str(folder / "b.png"), f"{folder}/../{folder.name}/b.png", r"bl\xE4.png"):
        handler.read_challenge("top", name)()
    assert seen == ["b.png", "b.png", "b.png", r"bl\xE4.png"]
    outside = folder.parent / "outside.png"
    outside.write_bytes((folder / "b.png").read_bytes())
    for name in (
        str(outside),
        "../outside.png",
        r"..\x2Foutside.png",
        f"{folder}/../outside.png",
        escape_name(str(outside)).replace("/", r"\x2F"),
        "..",
        ".",
        f"{folder}/",
        r"\x2E\x2E",
    ):
        with pytest.raises(UsageError, match="is no file of the line's challenge folder") as caught:
            handler.read_challenge("top", name)
        assert caught.value.remedy
    assert len(seen) == 4


def test_a_truncated_challenge_image_is_refused(folder: Path) -> None:
    path = folder / "b.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UsageError, match="cut off"):
        inject_challenge(folder, "b.png", twelve_bit_camera(folder))
