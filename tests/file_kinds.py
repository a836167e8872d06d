"""One file or folder of each kind that the command line tells apart, made by the project itself."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.cli._file_kinds import FileKind
from edgeinspect.services.gateway import journal, part_memory
from edgeinspect.storage.archive import index_file
from edgeinspect.storage.recording.messages import RecordingEnd, RecordingInfo
from edgeinspect.storage.recording.writer import RecordingWriter
from edgeinspect.storage.shadow_results import ShadowResultWriter
from edgeinspect.storage.shared_memory import frame_ring
from edgeinspect.wire import curve_keys
from tests.ledger_fixture import LedgerFixture

ROOT = Path(__file__).parents[1]
NAMES = {
    FileKind.LINE: "line.yaml",
    FileKind.HMI: "hmi.yaml",
    FileKind.GATEWAY: "gateway.yaml",
    FileKind.ARCHIVER: "archive.yaml",
    FileKind.MANIFEST: "manifest.yaml",
    FileKind.YAML: "compose.yaml",
    FileKind.JSON: "list.json",
    FileKind.SPLIT: "split.json",
    FileKind.TEXT: "labels.csv",
    FileKind.UTF16: "utf16.yaml",
    FileKind.PUBLIC_KEY: "gateway.key",
    FileKind.SECRET_KEY: "gateway.key_secret",
    FileKind.LEDGER: "strip.ledger.sqlite",
    FileKind.SHADOW_RESULTS: "strip.shadow.sqlite",
    FileKind.ARCHIVE_INDEX: "index.sqlite",
    FileKind.DATABASE: "other.sqlite",
    FileKind.RECORDING: "shift.mcap",
    FileKind.SPOOL: "strip.spool",
    FileKind.RING: "strip.ring",
    FileKind.JOURNAL: "example-plc.journal",
    FileKind.PART_MEMORY: "example-plc.parts",
    FileKind.ONNX: "net.onnx",
    FileKind.PLAN: "net.plan",
    FileKind.CHECKPOINT: "checkpoint.pt",
    FileKind.IMAGE: "scratches.png",
    FileKind.PACKED: "backup.tar",
    FileKind.BINARY: "firmware.bin",
    FileKind.EMPTY: "empty.yaml",
    FileKind.NOT_A_FILE: "pipe.yaml",
    FileKind.MODEL: "engines/strip-gate/1",
    FileKind.STORE: "engines",
    FileKind.RUN: "runs/gate",
    FileKind.ARCHIVE: "archive",
    FileKind.RECORDINGS: "recordings",
    FileKind.KEYS: "keys",
    FileKind.FOLDER: "pictures",
}
"""Kind to the name of its example, as the examples in the help use it."""


def make_files(folder: Path) -> dict[FileKind, Path]:
    """Make one of each kind in a new folder; returns their paths, relative to it."""
    for name in ("hmi", "gateway", "archive"):
        text = (ROOT / "examples" / f"{name}.yaml").read_text("utf-8")
        text = text.replace("/var/lib/edgeinspect", str(folder))  # nothing outside it is written
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    line = (ROOT / "examples" / "strip.yaml").read_text("utf-8") + f"ledger: {{folder: {folder}}}\n"
    (folder / "line.yaml").write_text(line, "utf-8")
    shutil.copytree(ROOT / "examples" / "pictures", folder / "pictures")
    shutil.copy(ROOT / "examples" / "pictures" / "scratches.png", folder)
    shutil.copytree(ROOT / "engines", folder / "engines")
    shutil.copy(folder / "engines" / "strip-gate" / "1" / "manifest.yaml", folder)
    shutil.copy(next((folder / "engines" / "strip-gate" / "1").glob("*.onnx")), folder / "net.onnx")
    _make_texts(folder)
    _make_records(folder)
    (folder / "net.plan").write_bytes(bytes(range(1, 200)))
    (folder / "firmware.bin").write_bytes(b"\x7fELF\x02" + bytes(300))
    (folder / "empty.yaml").touch()
    os.mkfifo(folder / "pipe.yaml")
    with tarfile.open(folder / "backup.tar", "w") as tar:
        tar.add(folder / "labels.csv", "labels.csv")
    with zipfile.ZipFile(folder / "checkpoint.pt", "w") as packed:
        packed.writestr("checkpoint/data.pkl", b"\x80\x02.")
    (folder / "runs" / "gate").mkdir(parents=True)
    shutil.copy(folder / "checkpoint.pt", folder / "runs" / "gate")
    _make_data_set(folder / "castings")
    return {kind: Path(name) for kind, name in NAMES.items()}


def _make_texts(folder: Path) -> None:
    (folder / "compose.yaml").write_text("services:\n  web:\n    image: debian\n", "utf-8")
    (folder / "list.json").write_text(json.dumps({"images": [], "annotations": []}), "utf-8")
    split = {"schema": "edgeinspect.split/1", "seed": 1, "names_sha256": "0" * 64, "splits": {}}
    (folder / "split.json").write_text(json.dumps(split), "utf-8")
    (folder / "labels.csv").write_text("frame,label,mask\n1,pit,\n", "utf-8")
    (folder / "utf16.yaml").write_text((folder / "line.yaml").read_text("utf-8"), "utf-16")
    curve_keys.create_key_pair(folder, "gateway")
    curve_keys.create_server_keys(folder / "keys")


def _make_records(folder: Path) -> None:
    ledger = LedgerFixture(folder, slots=64)
    ledger.add_verdicts(2, part="A1234")
    assert ledger.writer.write_backlog()
    ledger.dispose()
    (folder / "t.ledger.sqlite").rename(folder / "strip.ledger.sqlite")
    shutil.copy(folder / "strip.ledger.sqlite", folder / "backup.sqlite")
    (folder / "t.spool").rename(folder / "strip.spool")
    ShadowResultWriter(folder / "strip.shadow.sqlite", "a", "b").close()
    with closing(sqlite3.connect(folder / "index.sqlite")) as database, database:
        database.executescript(index_file._SCHEMA)
    with closing(sqlite3.connect(folder / "other.sqlite")) as database, database:
        database.execute("CREATE TABLE songs (title TEXT)")
    (folder / "recordings").mkdir()
    path = folder / "recordings" / "shift.mcap"
    info = RecordingInfo(line="strip", edgeinspect="1", began_utc_ns=5, machine={})
    writer = RecordingWriter(path, info)
    writer.finish(RecordingEnd(why="stopped", frames=0, without_picture=0, missed=0), 99)
    shutil.copy(path, folder)
    (folder / "strip.ring").write_bytes(frame_ring._MAGIC + bytes(100))
    (folder / "example-plc.journal").write_bytes(journal.MAGIC + bytes(100))
    (folder / "example-plc.parts").write_bytes(part_memory.MAGIC + bytes(100))
    (folder / "archive").mkdir()
    marker = {"schema": "edgeinspect.archive/1", "line": "strip"}
    (folder / "archive" / "archive.json").write_text(json.dumps(marker), "utf-8")


def _make_data_set(folder: Path) -> None:
    for kind in ("good", "crack"):
        (folder / kind).mkdir(parents=True)
        for index in range(4):
            pixels = np.random.default_rng(index).integers(0, 255, (32, 32), np.uint8)
            cv2.imwrite(str(folder / kind / f"{kind}{index}.png"), pixels)
