"""Targets: files that a run, a gateway or a data set stores, and that others may have changed."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np

from edgeinspect.backends._tensorrt.plan_cache import PlanCache, PlanKey, PlanManifest, read_plan
from edgeinspect.cameras._inspected_files import InspectedFileKey, InspectedFiles
from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.model import ModelKind
from edgeinspect.errors import ModelError
from edgeinspect.imaging.read_settings import DECLARATION_FILE, load_declaration
from edgeinspect.learning.calibrate.checkpoint import CalibrationCheckpoint
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.split_file import read_split, write_split
from edgeinspect.learning.datasets.unsupported_formats import detect_unsupported_format
from edgeinspect.learning.onnx_graphs.importer.foreign_file import identify_file
from edgeinspect.services.archiver.writer import ArchiveWriter
from edgeinspect.services.gateway.part_memory import NotPassedReason, PartMemory
from edgeinspect.services.hmi.drift import DriftMonitor, ScoreReference, make_reference
from edgeinspect.storage import shadow_results
from edgeinspect.storage.archive import format, reader
from edgeinspect.storage.model_store.golden_frames import read_golden_frames
from edgeinspect.tools.rescore import plan as rescore_plan
from edgeinspect.tools.rescore.run import read_results
from edgeinspect.tools.rescore.scorer import FrameScore
from tests.archive_fixture import config, pending_frame
from tests.fuzz.target import Target


def _write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# -- a gateway, a folder camera ------------------------------------------------------------


def _part_memory_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m"
        with closing(PartMemory(path, name="plc", capacity=16)) as made:
            for number in range(3):
                made.save_not_passed(bytes([number] * 16), NotPassedReason.REFUSED, 5, 6)
                made.save_trigger(number, b"p", 7, 8)
        return path.read_bytes()


def part_memory(data: bytes, folder: Path) -> None:
    """Open it, and add a part and a trigger."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = _write(Path(name), "m", data)
        with closing(PartMemory(path, name="plc", capacity=16)) as made:
            made.find_not_passed(b"\1" * 16)
            made.save_trigger(9, b"p", 7, 8)
            made.save_not_passed(b"\7" * 16, NotPassedReason.REFUSED, 5, 6)


def inspected_files(data: bytes, folder: Path) -> None:
    made = InspectedFiles(_write(folder, "judged", data))
    made.load()
    made.add(InspectedFileKey("a.png", 1, 2, 3))
    assert InspectedFileKey("a.png", 1, 2, 3) in made


def _inspected_files_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        made = InspectedFiles(Path(name) / "judged")
        for number in range(3):
            made.add(InspectedFileKey(f"{number}\udcff.png", 1, 2, number))
        return (Path(name) / "judged").read_bytes()


def declaration(data: bytes, folder: Path) -> None:
    _write(folder, DECLARATION_FILE, data)
    load_declaration(folder)


# -- models --------------------------------------------------------------------------------


def golden(data: bytes, folder: Path) -> None:
    spec = SimpleNamespace(
        golden=_write(folder, "golden.npz", data),
        kind=ModelKind.GATE,
        outputs=("defect_prob",),
        id="a/1",
        shape=FrameShape(4, 6, 1),
    )
    read_golden_frames(spec)  # type: ignore[arg-type]


def _golden_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        images = np.zeros((2, 4, 6, 1), np.uint8)
        CalibrationCheckpoint(Path(name)).save(
            "s", {"images": images, "output_0": np.zeros((2, 1), np.float32)}
        )
        return (Path(name) / "s.npz").read_bytes()


_KEY = PlanKey(
    tensorrt="10.3.0.30",
    compute_capability="8.7",
    gpu="Orin",
    driver="540",
    cuda="12.6",
    os="linux",
    arch="aarch64",
    l4t="36.4",
    onnx_sha256="0" * 64,
    calibration=None,
    typing="strong",
    flags=(),
    optimization_level=3,
    workspace_mib=512,
    profiles=("x:1x1x4x4",),
)
_PLAN = msgspec.json.encode(
    PlanManifest(
        key=_KEY,
        plan_sha256="0" * 64,
        plan_bytes=1,
        timing_sha256="0" * 64,
        built_at="2026-01-01T00:00:00Z",
        build_s=1.0,
    )
)


def plan_manifest(data: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        made = PlanCache(Path(name))
        made.save(_KEY, b"x", b"y", 1.0)
        (stored,) = Path(name).glob("*.json")
        stored.write_bytes(data)
        made.load(_KEY)
        made.load_timing_cache(_KEY)
        try:
            read_plan(stored.with_suffix(".plan"))
        except ModelError:
            pass  # its hash differs


def foreign_model(data: bytes, folder: Path) -> None:
    identify_file(_write(folder, "a.onnx", data))


# -- data sets -----------------------------------------------------------------------------

_SET = Dataset(
    root=Path("set"),
    layout="class_folders",
    classes=("pit",),
    has_masks=False,
    samples=tuple(
        Sample(f"{name}.png", Path(f"{name}.png"), False, split="train") for name in "abc"
    ),
)


def _split_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        write_split(Path(name) / "s.json", _SET, seed=1)
        return (Path(name) / "s.json").read_bytes()


def split(data: bytes, folder: Path) -> None:
    read_split(_write(folder, "s.json", data), replace(_SET))


def labels(data: bytes, folder: Path) -> None:
    """Open it as the label file of each supported program."""
    names = ("a.json", "a.xml", "labels/a.txt", "data.yaml", "a/_classes.csv")
    for name in names:
        _write(folder, name, data)
    detect_unsupported_format(folder)


# -- a run over images, the HMI ---------------------------------------------------------

_FRAMES = msgspec.json.encode([rescore_plan.RescoreFrame("a.png", "a.png", "pass", 0.5)])
_RESULT = msgspec.json.encode(FrameScore(frame="a.png", defect_prob=0.25))


def run_frames(data: bytes, folder: Path) -> None:
    _write(folder, rescore_plan.FRAMES_FILE, data)
    for _chunk in rescore_plan.read_chunks(folder):
        pass


def run_plan(data: bytes, folder: Path) -> None:
    _write(folder, rescore_plan.FRAMES_FILE, _FRAMES)
    _write(folder, rescore_plan.PLAN_FILE, data)
    rescore_plan.read_plan(folder)


def _plan_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        frames = _write(Path(name), rescore_plan.FRAMES_FILE, _FRAMES)
        found = rescore_plan.sha256_of(frames)
    return msgspec.json.encode(
        rescore_plan.RescorePlan(
            source="s",
            model="m/1",
            model_sha256="0" * 64,
            backend="ov",
            frames=1,
            chunks=1,
            chunk_frames=1,
            frames_sha256=found,
        )
    )


def run_results(data: bytes, folder: Path) -> None:
    _write(folder, rescore_plan.FRAMES_FILE, _FRAMES)
    path = rescore_plan.chunk_result_path(folder, 0)
    _write(path.parent, path.name, data)
    for _each in read_results(folder):
        pass


def drift(data: bytes, folder: Path) -> None:
    """Read a reference of scores and compute the drift index."""
    _write(folder, f"strip.{'0' * 12}.scores.json", data)
    made = DriftMonitor("strip", 200, 400, folder)
    made.start_model("0" * 64, [])
    for number in range(250):
        made.add_score("0" * 64, number / 250)
    made.current_index()


# -- SQLite files of the archive and the shadow -----------------------------------------


def _index_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        _archive(Path(name))
        return (Path(name) / "archive" / format.INDEX_FILE).read_bytes()


def _archive(folder: Path) -> None:
    """Start the archive on it, add a frame, and stop in order."""
    keeper = ArchiveWriter(config(folder), ManualClock())
    try:
        frame = pending_frame(5)
        keeper.progress.mark_pending(frame.key)
        keeper.save(frame)
        keeper.maintain(force=True)
    finally:
        keeper.close()


def index(data: bytes, folder: Path) -> None:
    """Read and write it: it is used, or quarantined and created again."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name) / "archive"
        _write(root, format.MARKER_FILE, b'{"line":"t","schema":"edgeinspect.archive/1"}')
        _write(root, format.INDEX_FILE, data)
        reader.find_frames(root, reader.FrameQuery())
        _archive(Path(name))
        reader.read_losses(root)


def _shadow_results_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "r"
        record = shadow_results.ShadowResultWriter(path, "gate/1#0123", "gate/2#4567")
        seen = shadow_results.ShadowSample(
            seq=1, epoch=1, at_utc_ns=5, decision="REJECT", classes=("pit",), prob=0.5
        )
        record.add(seen, seen, 900)
        record.close()
        return path.read_bytes()


def shadow_results_file(data: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        shadow_results.read_comparisons([_write(Path(name), "r", data)], "gate/2")


_DRIFT = msgspec.json.encode(make_reference("0" * 64, [number / 300 for number in range(300)]))
assert isinstance(msgspec.json.decode(_DRIFT, type=ScoreReference), ScoreReference)

TARGETS = [
    Target("stored: gateway's memory", part_memory, [_part_memory_bytes()]),
    Target("stored: judged files", inspected_files, [_inspected_files_bytes()]),
    Target("stored: reading.yaml", declaration, [b"bits: 12\nflat_end: true\n"]),
    Target("stored: golden frames", golden, [_golden_bytes()]),
    Target("stored: plan's manifest", plan_manifest, [_PLAN]),
    Target("stored: foreign model", foreign_model, [b"\x08\x08" + b"\x72\x04abcd"]),
    Target("stored: split", split, [_split_bytes()]),
    Target(
        "stored: other programs' labels",
        labels,
        [
            b'{"images": [], "annotations": [], "categories": []}',
            b"0 0.5 0.5 0.1 0.1\n",
            b"<annotation><object></object></annotation>",
            b"names: [a]\ntrain: x\n",
            b"filename, a, b\na.png, 0, 1\n",
        ],
    ),
    Target("stored: frames of a run", run_frames, [_FRAMES + b"\n"]),
    Target("stored: plan of a run", run_plan, [_plan_bytes()]),
    Target("stored: results of a run", run_results, [_RESULT + b"\n"]),
    Target("stored: reference of scores", drift, [_DRIFT]),
    Target("stored: archive's index", index, [_index_bytes()]),
    Target("stored: shadow's record", shadow_results_file, [_shadow_results_bytes()]),
]
