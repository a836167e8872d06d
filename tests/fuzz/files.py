"""Fuzz targets: files that another program or version may have written, or that were truncated."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from edgeinspect.backends._onnx_metadata import read_metadata
from edgeinspect.config import loader
from edgeinspect.config.yaml_document import read_text
from edgeinspect.domain.verdict import Decision
from edgeinspect.imaging.image_file import read_native
from edgeinspect.imaging.mask_file import read_mask_values
from edgeinspect.imaging.run_length import decode_runs, parse_runs
from edgeinspect.learning.calibrate.checkpoint import CalibrationCheckpoint
from edgeinspect.learning.datasets.archive_frames import read_corrections
from edgeinspect.learning.datasets.masks.label_maps import read_class_names
from edgeinspect.learning.datasets.tables import read_header, read_rows
from edgeinspect.services.archiver.config import parse_archive_config as parse_archive
from edgeinspect.services.gateway import config as gateway_config
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.services.hmi import config as page_config
from edgeinspect.storage.archive import format, status
from edgeinspect.storage.ledger.verification import open_ledger, verify_ledger
from edgeinspect.storage.model_store import read_model
from edgeinspect.storage.model_store.manifest import read_manifest
from edgeinspect.storage.model_store.store import ModelStore
from edgeinspect.storage.model_store.versions import STATE_FILE
from edgeinspect.storage.shared_memory.frame_ring import FrameRing, FrameRingReader
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.spool.spool import Spool
from edgeinspect.system.user_file import Role, UserFile
from edgeinspect.wire import curve_keys
from edgeinspect.wire.messages import decode_verdict
from tests.fuzz.messages import VERDICTS
from tests.fuzz.target import Target
from tests.ledger_fixture import LedgerFixture

ROOT = Path(__file__).resolve().parents[2]


def _write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# -- configurations ------------------------------------------------------------------------

GATEWAY = b"""schema: 1
gateway: press
feed: {line: press, verdicts: "tcp://127.0.0.1:5590", replay: "tcp://127.0.0.1:5591"}
link: {type: modbus, role: server, host: 127.0.0.1, port: 502, allow: ["127.0.0.1"]}
cursor: press.journal
fail_safe_ms: 300
"""
ARCHIVE = (ROOT / "examples" / "archive.yaml").read_bytes()
PAGE = f"schema: 1\nline: {ROOT}/examples/strip.yaml\nbind: 127.0.0.1:8590\n".encode()


def configuration(data: bytes, folder: Path) -> None:
    loader.parse_config(read_text(_write(folder, "line.yaml", data)))


def gateway(data: bytes, folder: Path) -> None:
    gateway_config.load_config(_write(folder, "gateway.yaml", data))


def archive(data: bytes, folder: Path) -> None:
    parse_archive(read_text(_write(folder, "archive.yaml", data)))


def page(data: bytes, folder: Path) -> None:
    page_config.load_hmi_config(_write(folder, "hmi.yaml", data))


def settings(data: bytes, _folder: Path) -> None:
    text = (ROOT / "examples" / "strip.yaml").read_text(encoding="utf-8")
    loader.parse_config(text, overrides=[data.decode("utf-8", "replace")])


# -- shared memory and state ---------------------------------------------------------------


def _spool_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        fixture = LedgerFixture(Path(name), slots=16)
        fixture.add_verdicts(20, Decision.REJECT)
        fixture.open("part-1")
        fixture.spool.release()
        return fixture.spool_path.read_bytes()


def spool(data: bytes, folder: Path) -> None:
    """Open a spool file at start, with a reader beside it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = _write(Path(name), "t.spool", data)
        try:
            reader = SpoolReader(path)
        except Exception as error:
            reader = None
            assert type(error).__name__ == "DeviceLostError", error
        if reader is not None:
            for seq in range(max(0, reader.last_seq - 3), reader.last_seq + 2):
                reader.read(seq)
        opened = Spool(path, line="t", slots=16, utc_ns=1_800_000_000_000_000_000)
        try:
            for left in opened.unfinished:
                opened.close(left.seq, b"{}")
        finally:
            opened.release()


def _ring_bytes() -> bytes:
    from edgeinspect.domain.frame import FrameShape

    with tempfile.TemporaryDirectory() as name:
        ring = FrameRing(Path(name) / "r", slots=2, shape=FrameShape(4, 8, 1), epoch=7)
        ring.publish(0, 3)
        return (Path(name) / "r").read_bytes()


def ring(data: bytes, folder: Path) -> None:
    reader = FrameRingReader(_write(folder, "t.ring", data))
    reader.newest()
    reader.read(3)


def _journal_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        log = GatewayJournal(Path(name) / "j", name="plc", capacity=16)
        log.set_cursor(40, 7, 1)
        log.close()
        return (Path(name) / "j").read_bytes()


def journal(data: bytes, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        log = GatewayJournal(_write(Path(name), "j", data), name="plc", capacity=16)
        with closing(log):
            log.read_records()


def _ledger_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        fixture = LedgerFixture(Path(name), slots=16)
        fixture.add_verdicts(12, Decision.REJECT)
        fixture.writer.write_backlog(last=True)
        fixture.writer.close()
        fixture.spool.release()
        return fixture.path.read_bytes()


def ledger(data: bytes, folder: Path) -> None:
    path = _write(folder, "t.ledger.sqlite", data)
    open_ledger(path).close()
    verify_ledger(path)


def ledger_writer(data: bytes, folder: Path) -> None:
    """Start the ledger writer on a file, which is used or quarantined."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        _write(Path(name), "t.ledger.sqlite", data)
        fixture = LedgerFixture(Path(name), slots=16)
        try:
            fixture.add_verdicts(3)
            fixture.writer.write_backlog(last=True)
        finally:
            fixture.dispose()


def state(data: bytes, folder: Path) -> None:
    _write(folder, status.STATUS_FILE, data)
    status.read_status(folder)


def owner(data: bytes, folder: Path) -> None:
    _write(folder, format.MARKER_FILE, data)
    format.read_marker(folder)


def sidecar(data: bytes, folder: Path) -> None:
    path = _write(folder, f"a{format.SIDECAR_SUFFIX}", data)
    format.is_complete(path, format.read_sidecar(path))


def _users_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        users = UserFile(Path(name) / "users.json")
        users.add_or_update("anna", Role.VIEWER, "a long password")
        assert users.path is not None
        return users.path.read_bytes()


def users(data: bytes, folder: Path) -> None:
    path = _write(folder, "users.json", data)
    path.chmod(0o600)
    UserFile(path).read()


def key(data: bytes, folder: Path) -> None:
    path = _write(folder, "a.key_secret", data)
    path.chmod(0o600)
    curve_keys.read_secret_key(path)


def _key_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        return curve_keys.create_key_pair(Path(name), "a")[1].read_bytes()


# -- models --------------------------------------------------------------------------------

GATE = ROOT / "engines" / "strip-gate" / "1"


def manifest(data: bytes, folder: Path) -> None:
    read_manifest(_write(folder, "manifest.yaml", data))


def model(data: bytes, folder: Path) -> None:
    """Read a model's folder whose manifest does not match its file."""
    version = folder / "strip-gate" / "1"
    if not version.is_dir():
        shutil.copytree(GATE, version)
    (version / "manifest.yaml").write_bytes(data)
    read_model(version)


def register(data: bytes, folder: Path) -> None:
    version = folder / "strip-gate" / "1"
    if not version.is_dir():
        shutil.copytree(GATE, version)
    _write(folder / "strip-gate", STATE_FILE, data)
    ModelStore(folder).model_versions("strip-gate").read_state()


def metadata(data: bytes, folder: Path) -> None:
    read_metadata(_write(folder, "a.onnx", data))


def _npz_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        book = CalibrationCheckpoint(Path(name))
        book.save("s", {"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 2), np.uint8)})
        return (Path(name) / "s.npz").read_bytes()


def notebook(data: bytes, folder: Path) -> None:
    _write(folder, "s.npz", data)
    CalibrationCheckpoint(folder).load("s")


# -- images and tables ----------------------------------------------------------------------


def _images() -> list[bytes]:
    """Encode a small image in each format: grey, colour and 16 bits."""
    rng = np.random.default_rng(5)
    grey = rng.integers(0, 256, (9, 12), np.uint8)
    color = rng.integers(0, 256, (9, 12, 3), np.uint8)
    deep = rng.integers(0, 1 << 16, (9, 12), np.uint16)
    encodings = [(ending, grey) for ending in (".png", ".jpg", ".bmp", ".tif", ".pgm")]
    encodings += [(".png", color), (".jpg", color), (".tif", color), (".png", deep), (".tif", deep)]
    return [cv2.imencode(ending, pixels)[1].tobytes() for ending, pixels in encodings]


def _masks() -> list[bytes]:
    """Encode a black and white mask in each format."""
    white = np.zeros((16, 24), np.uint8)
    white[:8, :8] = 255
    endings = (".png", ".jpg", ".bmp", ".tif", ".pgm")
    return [cv2.imencode(ending, white)[1].tobytes() for ending in endings]


def image(data: bytes, folder: Path) -> None:
    read_native(_write(folder, "a.png", data))


def mask(data: bytes, folder: Path) -> None:
    read_mask_values(_write(folder, "a.png", data))


TABLE = b"frame,label,mask\na.png,good,\nb.png,pit,\nc.png,drop,\n"


def table(data: bytes, folder: Path) -> None:
    path = _write(folder, "t.csv", data)
    read_header(path)
    read_rows(path)


def corrections(data: bytes, folder: Path) -> None:
    read_corrections(_write(folder, "t.csv", data))


def class_names(data: bytes, folder: Path) -> None:
    for name in ("classes.txt", "labels.txt"):
        _write(folder, name, data)
    read_class_names(folder)


def label_map(data: bytes, folder: Path) -> None:
    _write(folder, "labelmap.txt", data)
    read_class_names(folder)


def class_values(data: bytes, folder: Path) -> None:
    _write(folder, "_classes.csv", data)
    read_class_names(folder)


def runs(data: bytes, _folder: Path) -> None:
    decode_runs(parse_runs(data.decode("utf-8", "replace")), 64, 400)


_STRIP = (ROOT / "examples" / "strip.yaml").read_bytes()
_SIDECAR = format.encode_document(
    format.Sidecar(
        kind=format.ArchiveCategory.REJECT,
        label="pit",
        saved_at_utc_ns=5,
        picture=format.ImageFile(file="a.png", size_bytes=3, sha256="0" * 64, lossless=True),
        verdict=decode_verdict(VERDICTS[0]),
    )
)

TARGETS = [
    Target("file: line's configuration", configuration, [_STRIP]),
    Target("file: gateway's configuration", gateway, [GATEWAY]),
    Target("file: page's configuration", page, [PAGE]),
    Target("file: archive's configuration", archive, [ARCHIVE]),
    Target("argument: --set", settings, [b"cameras.top.rate_hz=25", b"capture.ring_slots=12"]),
    Target("file: spool", spool, [_spool_bytes()]),
    Target("file: ring", ring, [_ring_bytes()]),
    Target("file: gateway's journal", journal, [_journal_bytes()]),
    Target("file: ledger", ledger, [_ledger_bytes()]),
    Target("file: ledger, written", ledger_writer, [_ledger_bytes()]),
    Target("file: archive's state", state, [b'{"at_utc_ns":1,"saved":2,"missed":3}']),
    Target("file: archive's marker", owner, [b'{"line":"strip","schema":"edgeinspect.archive/1"}']),
    Target("file: sidecar", sidecar, [_SIDECAR]),
    Target("file: users", users, [_users_bytes()]),
    Target("file: CURVE key", key, [_key_bytes()]),
    Target("file: manifest", manifest, [(GATE / "manifest.yaml").read_bytes()]),
    Target("file: model's folder", model, [(GATE / "manifest.yaml").read_bytes()]),
    Target("file: register", register, [b'{"schema":1,"live":1,"before":[1],"seals":{}}']),
    Target(
        "file: ONNX metadata",
        metadata,
        [b"\x08\x08" + b"\x72\x08\x0a\x03key\x12\x01v"],
        (ValueError, OSError),
    ),
    Target("file: calibration's notes", notebook, [_npz_bytes()]),
    Target("file: picture", image, _images()),
    Target("file: mask", mask, _masks()),
    Target("file: table", table, [TABLE]),
    Target("file: corrections", corrections, [TABLE]),
    Target("file: class names", class_names, [b"__ignore__\n_background_\npit\npatch\n"]),
    Target("file: label map", label_map, [b"# x\nbackground:0,0,0::\npit:250,50,83::\n"]),
    Target("file: class values", class_values, [b"Pixel Value, Class\n0, background\n1, pit\n"]),
    Target("text: run lengths", runs, [b"1 3 10 2 900 40"]),
]
