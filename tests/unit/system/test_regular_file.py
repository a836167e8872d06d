"""Files that somebody else named: pipes, sockets, devices, links, files that grow or vanish."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.errors import DataError
from edgeinspect.system import regular_file
from edgeinspect.system.regular_file import (
    FileMissingError,
    FileReadError,
    escape_name,
    is_regular,
    open_regular,
    read_regular,
    read_text,
    unescape_name,
)


def test_the_bytes_of_a_file_and_of_a_link_to_it(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"abc" * 1000)
    link.symlink_to(path)
    assert read_regular(path, 3000) == read_regular(link, 3000) == path.read_bytes()
    with pytest.raises(FileReadError):
        read_regular(link, 3000, follow=False)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert read_regular(tmp_path / "a", 10) == b""


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "folder", "link", "loop", "device", "socket", "nothing", "a\0b"):
            path = tmp_path / name
            assert not is_regular(path)
            with pytest.raises(FileReadError) as caught:
                read_regular(path, 100)
            assert isinstance(caught.value, DataError)
            assert isinstance(caught.value, OSError)
            assert caught.value.where
            assert caught.value.what
            assert caught.value.strerror


def test_what_is_not_there_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("nothing", "dangling"):
        with pytest.raises(FileMissingError):
            read_regular(tmp_path / name, 100)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(FileReadError, match="larger"):
        read_regular(path, 1 << 20)


def test_a_file_without_a_size_is_bounded_too() -> None:
    assert b"Linux" in read_regular("/proc/version", 10_000)
    with pytest.raises(FileReadError, match="larger"):
        read_regular("/proc/version", 5)


def test_a_file_that_is_exchanged_after_the_look_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pipe = tmp_path / "a", tmp_path / "pipe"
    path.write_bytes(b"abc")
    os.mkfifo(pipe)
    before = os.stat(path)
    monkeypatch.setattr(regular_file.os, "stat", lambda *_args, **_more: before)
    with pytest.raises(FileReadError, match="pipe"):
        open_regular(pipe)


def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    fstat, looks = os.fstat, []

    def growing(handle: int) -> os.stat_result:
        looks.append(handle)
        if len(looks) == 3:  # the kind, before, after
            path.write_bytes(b"abcdef")
        return fstat(handle)

    monkeypatch.setattr(regular_file.os, "fstat", growing)
    with pytest.raises(FileReadError, match="changed"):
        read_regular(path, 100)


def test_text_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn")
    assert read_text(tmp_path / "a") == "grün"


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_printable_name_can_be_stored_and_is_nobody_elses(first: bytes, second: bytes) -> None:
    names = os.fsdecode(first), os.fsdecode(second)
    shown = tuple(map(escape_name, names))
    assert (shown[0] == shown[1]) == (first == second)
    assert tuple(map(unescape_name, shown)) == names
    for text in shown:
        text.encode("utf-8")
        assert text.isprintable() or " " in text
        assert not set(text) & set("\n\r\t\x1b\u202e\u2066")


@given(st.text(max_size=40))
def test_what_was_made_printable_can_be_taken_back(name: str) -> None:
    assert unescape_name(escape_name(name)) == name


@given(st.integers(0, 0xFFFFFFFF))
def test_what_no_name_is_printed_as_names_no_file(code: int) -> None:
    assert unescape_name(f"\\U{code:08X}") == (
        chr(code) if code <= sys.maxunicode else f"\\U{code:08X}"
    )


def test_names_that_need_no_escape_stay_as_they_are() -> None:
    for name in ("a.png", "mit Leer zeichen.png", "größe 5 µm.png", "表面.png", "-rf.png"):
        assert escape_name(name) == name
    assert escape_name(os.fsdecode(b"gr\xf6\xdfe.png")) == "gr\\xF6\\xDFe.png"
    assert escape_name("a\x1b[2J\n.png") == "a\\x1B[2J\\x0A.png"


OWN = {
    "services/hmi/read_routes.py",
    "services/hmi/host_sensors.py",
    "system/boot_id.py",
    "tools/doctor/host.py",
    "cli/_model_actions.py",
    "system/gpu_devices.py",
    "backends/_tensorrt/cuda.py",
    "wire/listening_sockets.py",
    "tools/bench/benchmark.py",
    "system/regular_file.py",
}
"""They read what the package or the kernel itself names: its own files, /proc, /sys."""
BARE = re.compile(
    r"\.read_bytes\(|\.read_text\(|np\.fromfile|cv2\.imread\(|\.open\(\"rb\"|\.open\(newline|\.open\(encoding"
)


def test_nothing_else_opens_a_file_that_somebody_named() -> None:
    package = Path(regular_file.__file__).parents[1]
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if BARE.search(path.read_text(encoding="utf-8").replace("yaml_document.read_text(", ""))
    }
    assert found <= OWN, "use edgeinspect.system.regular_file: a pipe is waited for, for ever"
