"""Recognises by its content what a file or folder is, and says what it is for.

Only the first bytes are read, and only of regular files: a pipe is named, not opened.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgeinspect.system import open_regular

_HEAD_BYTES = 1 << 16
_SEARCHES_MAX = 8
_ENTRIES_MAX = 1000
_SHOWN_KEYS = 4


class FileKind(Enum):
    """What a file or folder is, in words that follow `is`."""

    LINE = "a line's file"
    HMI = "an HMI's file"
    GATEWAY = "a gateway's file"
    ARCHIVER = "an archive's file"
    MANIFEST = "a model's manifest"
    YAML = "a YAML file"
    JSON = "a JSON file"
    SPLIT = "a split file"
    TEXT = "a text file"
    UTF16 = "text in UTF-16"
    PUBLIC_KEY = "a public key"
    SECRET_KEY = "a secret key"
    LEDGER = "a line's ledger"
    SHADOW_RESULTS = "a file of shadow results"
    ARCHIVE_INDEX = "the index of an archive"
    DATABASE = "an SQLite database"
    RECORDING = "a recording"
    SPOOL = "a line's spool"
    RING = "a line's frame ring"
    JOURNAL = "a gateway's journal"
    PART_MEMORY = "a gateway's memory of parts"
    ONNX = "an ONNX network"
    PLAN = "a TensorRT plan"
    CHECKPOINT = "a PyTorch checkpoint"
    IMAGE = "an image"
    PACKED = "a packed file"
    BINARY = "a binary file"
    EMPTY = "an empty file"
    NOT_A_FILE = "not a regular file"
    MODEL = "a model's folder"
    STORE = "a folder of models"
    RUN = "a training run's folder"
    ARCHIVE = "an archive of images"
    RECORDINGS = "a folder of recordings"
    KEYS = "a folder of a line's keys"
    FOLDER = "a folder"


REMEDIES: dict[FileKind, str] = {
    FileKind.LINE: "Run it with: edgeinspect run {path}",
    FileKind.HMI: "Start it with: edgeinspect hmi {path}",
    FileKind.GATEWAY: "Start it with: edgeinspect gateway {path}",
    FileKind.ARCHIVER: "Start it with: edgeinspect archive run {path}",
    FileKind.MANIFEST: "Its folder is the model: {parent}",
    FileKind.SPLIT: "Use it with --split-file",
    FileKind.UTF16: "Save it as UTF-8",
    FileKind.PUBLIC_KEY: "Admit it with: edgeinspect keys allow FOLDER {path}",
    FileKind.LEDGER: "Verify it with: edgeinspect ledger verify {path}",
    FileKind.SHADOW_RESULTS: "Show it with: edgeinspect models shadow MODEL --results {path}",
    FileKind.ARCHIVE_INDEX: "Name its folder: {parent}",
    FileKind.RECORDING: "Inspect it again with: edgeinspect replay {path}",
    FileKind.SPOOL: "Verify it with: edgeinspect ledger verify FILE --spool {path}",
    FileKind.ONNX: "Import it with: edgeinspect models import {path}",
    FileKind.PLAN: "Show it with: edgeinspect models build --inspect {path}",
    FileKind.CHECKPOINT: "Measure it with: edgeinspect evaluate {path} --data DATASET",
    FileKind.PACKED: "Unpack it first",
    FileKind.MODEL: "Measure it with: edgeinspect evaluate {path} --data DATASET",
    FileKind.STORE: "List it with: edgeinspect models list --store {path}",
    FileKind.RUN: "Measure it with: edgeinspect evaluate {path} --data DATASET",
    FileKind.ARCHIVE: "List it with: edgeinspect archive list {path}",
    FileKind.RECORDINGS: "Inspect them again with: edgeinspect replay {path}",
    FileKind.KEYS: "List it with: edgeinspect keys list {path}",
}
"""What such a file is for."""

_SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MAGICS: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x89MCAP0\r\n", FileKind.RECORDING),
    (b"EISPOOL", FileKind.SPOOL),
    (b"EIRING", FileKind.RING),
    (b"EIGWJRN", FileKind.JOURNAL),
    (b"EIGWMEM", FileKind.PART_MEMORY),
    (b"\x89PNG\r\n\x1a\n", FileKind.IMAGE),
    (b"\xff\xd8\xff", FileKind.IMAGE),
    (b"BM", FileKind.IMAGE),
    (b"II*\0", FileKind.IMAGE),
    (b"MM\0*", FileKind.IMAGE),
    (b"GIF8", FileKind.IMAGE),
    (b"P5", FileKind.IMAGE),
    (b"P6", FileKind.IMAGE),
    (b"\x1f\x8b", FileKind.PACKED),
    (b"\xfd7zXZ\0", FileKind.PACKED),
    (b"\x28\xb5\x2f\xfd", FileKind.PACKED),
    (b"BZh", FileKind.PACKED),
    (b"7z\xbc\xaf", FileKind.PACKED),
    (b"!<arch>\n", FileKind.PACKED),
    (b"\xff\xfe", FileKind.UTF16),
    (b"\xfe\xff", FileKind.UTF16),
)
_YAML_KEY = re.compile(rb"^([A-Za-z_][A-Za-z0-9_-]*)[ \t]*:(?:[ \t]+(.*))?$", re.MULTILINE)
_FLOW_TOKEN = re.compile(
    rb"""(?P<key>"[^"\\]{0,64}"|'[^']{0,64}'|[A-Za-z_][A-Za-z0-9_-]{0,63})\s*:(?=[\s"'\[{0-9-])"""
    rb"""|[{}\[\]]|"(?:[^"\\]|\\.)*"|'[^']*'"""
)
_HMI_KEYS = frozenset({"bind", "hosts", "users", "silent_ms", "live_hz", "shifts", "ring_folder"})
_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""Tags of the fields that may follow the version in an ONNX file (protobuf)."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """What was recognised in a file."""

    kind: FileKind
    detail: str = ""
    """By what, or what in particular, such as `keys bind, line`."""

    def __str__(self) -> str:
        if self.kind is FileKind.NOT_A_FILE:
            return self.detail
        return f"{self.kind.value} ({self.detail})" if self.detail else self.kind.value

    def remedy(self, path: Path) -> str:
        """Return what the file at `path` is for, commands quoted for a shell; empty if unknown."""
        return REMEDIES.get(self.kind, "").format(path=shlex.quote(str(path)), parent=path.parent)


def identify(path: Path) -> FileContent:
    """Recognise a file or folder by its content.

    Raises:
        OSError: It does not exist, or cannot be read.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return FileContent(_folder_kind(path))
    if not stat.S_ISREG(mode):
        return FileContent(FileKind.NOT_A_FILE, _SPECIAL_FILES.get(stat.S_IFMT(mode), "not a file"))
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    return _content_of(head, path.suffix.lower())


def _folder_kind(folder: Path) -> FileKind:
    names: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            names.add(entry.name)
            if len(names) == _ENTRIES_MAX:
                break
    if "manifest.yaml" in names:
        return FileKind.MODEL
    if "archive.json" in names:
        return FileKind.ARCHIVE
    if "checkpoint.pt" in names or "run.json" in names:
        return FileKind.RUN
    if "server.key" in names or "server.key_secret" in names:
        return FileKind.KEYS
    if any(name.endswith(".mcap") for name in names):
        return FileKind.RECORDINGS
    if any(_has(folder, each) for each in ("[1-9]*/manifest.yaml", "*/[1-9]*/manifest.yaml")):
        return FileKind.STORE
    return FileKind.FOLDER


def _has(folder: Path, pattern: str) -> bool:
    """Return whether a folder has a file, also while others remove folders from it."""
    for _ in range(_SEARCHES_MAX):
        try:
            return next(folder.glob(pattern), None) is not None
        except FileNotFoundError:
            folder.stat()  # raises if it is the folder itself that is gone
    return False


def _content_of(head: bytes, suffix: str) -> FileContent:
    if not head:
        return FileContent(FileKind.EMPTY)
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return FileContent(kind)
    if head.startswith(b"SQLite format 3\0"):
        return FileContent(_database_kind(head))
    if head.startswith(b"PK\x03\x04"):
        is_torch = b"/data.pkl" in head[:4096]
        return FileContent(FileKind.CHECKPOINT if is_torch else FileKind.PACKED)
    if head[257:262] == b"ustar":
        return FileContent(FileKind.PACKED, "tar")
    if head[:1] == b"\x08" and len(head) > 2 and head[1] < 64 and head[2] in _ONNX_FIELDS:
        return FileContent(FileKind.ONNX)
    if suffix == ".plan":
        return FileContent(FileKind.PLAN)
    if suffix == ".onnx":
        return FileContent(FileKind.ONNX)
    if b"\0" in head:
        if not head.strip(b"\0"):  # what a power cut leaves of a file that was not flushed
            return FileContent(FileKind.BINARY, "nothing but zeros")
        return FileContent(FileKind.UTF16 if _looks_like_utf16(head) else FileKind.BINARY)
    return _text_content(head.removeprefix(b"\xef\xbb\xbf"), suffix)


def _looks_like_utf16(head: bytes) -> bool:
    """Return whether every other byte is 0, as in UTF-16 of Latin letters without a mark."""
    zeros = sorted((head[::2].count(0), head[1::2].count(0)))
    return zeros[0] == 0 and zeros[1] * 10 >= len(head) // 2 * 9


def _database_kind(head: bytes) -> FileKind:
    """Return the kind by the statements in the first page, which has the schema."""
    for table, kind in (
        (b"CREATE TABLE verdicts", FileKind.LEDGER),
        (b"CREATE TABLE opinions", FileKind.SHADOW_RESULTS),
        (b"CREATE TABLE missed", FileKind.ARCHIVE_INDEX),
    ):
        if table in head:
            return kind
    return FileKind.DATABASE


def _text_content(head: bytes, suffix: str) -> FileContent:
    if b"curve" in head and b"public-key" in head:
        return FileContent(FileKind.SECRET_KEY if b"secret-key" in head else FileKind.PUBLIC_KEY)
    if head.lstrip()[:1] in (b"{", b"["):
        keys = _keys_in_braces(head)
        if {"splits", "names_sha256"} <= keys.keys():
            return FileContent(FileKind.SPLIT)
        kind, known_by = _yaml_kind(keys)  # JSON is YAML too
        return _with_keys(FileKind.JSON if kind is FileKind.YAML else kind, keys, known_by)
    values = {name.decode(): value for name, value in _YAML_KEY.findall(head)}
    if not values:
        return FileContent(FileKind.TEXT)
    kind, known_by = _yaml_kind(values)
    if kind is FileKind.YAML and suffix not in (".yaml", ".yml"):
        return FileContent(FileKind.TEXT)
    return _with_keys(kind, values, known_by)


def _with_keys(kind: FileKind, values: dict[str, bytes], known_by: frozenset[str]) -> FileContent:
    shown = sorted(values.keys() & known_by)[:_SHOWN_KEYS]
    return FileContent(kind, f"key{'s' * (len(shown) > 1)} {', '.join(shown)}" if shown else "")


def _keys_in_braces(head: bytes) -> dict[str, bytes]:
    """Return the keys of the outermost table in JSON, or in YAML with braces."""
    found: dict[str, bytes] = {}
    depth = 0
    for token in _FLOW_TOKEN.finditer(head):
        if token["key"] is not None:
            if depth == 1:
                found[token["key"].strip(b"'\"").decode("utf-8", "replace")] = b""
        elif token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
    return found


def _yaml_kind(values: dict[str, bytes]) -> tuple[FileKind, frozenset[str]]:
    """Return the kind by the top-level keys, and those that tell it."""
    keys = values.keys()
    if keys & {"cameras", "engines", "decide"}:
        return FileKind.LINE, frozenset({"cameras", "engines", "decide"})
    if keys & {"gateway", "link"}:
        return FileKind.GATEWAY, frozenset({"gateway", "link"})
    if "archive" in keys and "feed" in keys:
        return FileKind.ARCHIVER, frozenset({"archive", "feed"})
    if {"kind", "sha256"} <= keys:
        return FileKind.MANIFEST, frozenset({"kind", "sha256"})
    line = values.get("line", b"").split(b"#")[0].strip().strip(b"'\"")
    if "line" in keys and (keys & _HMI_KEYS or line.endswith((b".yaml", b".yml"))):
        return FileKind.HMI, _HMI_KEYS | {"line"}
    return FileKind.YAML, frozenset()
