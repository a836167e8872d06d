"""What a line requires of its machine, besides models and cameras: for `check` and `run`.

Each requirement is tried and undone: a folder is created, room is allocated, an address is
bound. What the running line itself holds (its spool, its addresses) is skipped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from edgeinspect.config import LineConfig
from edgeinspect.domain import FrameShape
from edgeinspect.errors import EdgeInspectError, SpoolError
from edgeinspect.storage.paths import bind_addresses, shared_memory_folder
from edgeinspect.storage.shared_memory import (
    check_folder_permissions,
    is_line_running,
    open_line_file,
    ring_size_bytes,
)
from edgeinspect.storage.spool import HEADER_BYTES, SLOT_BYTES
from edgeinspect.system import realtime
from edgeinspect.wire import bind, read_server_keys


def is_running(config: LineConfig) -> bool:
    """Return whether a daemon runs this line now."""
    return is_line_running(shared_memory_folder(config) / f"{config.line}.spool")


def unmet_requirements(
    config: LineConfig, cameras: int, shape: FrameShape | None = None
) -> list[EdgeInspectError]:
    """Return the requirements of a line that this machine does not meet for this user.

    Applies the `real_time` settings to this process.

    Args:
        config: Checked.
        cameras: Number of cameras, each with a ring.
        shape: Of the models' frames, for the size of the rings; None if it is not known.
    """
    problems: list[EdgeInspectError] = []
    try:
        realtime.apply_process_settings(**msgspec.structs.asdict(config.real_time))
    except EdgeInspectError as error:
        problems.append(error)
    if is_running(config):
        return problems
    rings = cameras * ring_size_bytes(config.capture.ring_slots, shape) if shape is not None else 0
    spool_bytes = HEADER_BYTES + config.spool.slots * SLOT_BYTES
    folder = shared_memory_folder(config)
    verdicts, replay = bind_addresses(config, folder)
    requirements: tuple[Callable[[], None], ...] = (
        lambda: _check_room(folder, spool_bytes, rings, config.line),
        lambda: _check_keys(config),
        lambda: _check_address("publish.verdicts", verdicts, folder),
        lambda: _check_address("publish.replay", replay, folder),
    )
    for requirement in requirements:
        try:
            requirement()
        except EdgeInspectError as error:
            problems.append(error)
    return problems


def _check_room(folder: Path, spool_bytes: int, rings_bytes: int, line: str) -> None:
    """Allocate the room for spool and rings that a former run did not leave there."""
    check_folder_permissions(folder)
    with contextlib.suppress(OSError):  # absent: it will be created
        os.close(open_line_file(folder / f"{line}.spool", write=True))
    existing_bytes = sum(
        _file_bytes(path) for path in (folder / f"{line}.spool", *folder.glob(f"{line}.*.ring"))
    )
    needed_bytes = max(0, spool_bytes + rings_bytes - existing_bytes)
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        if parent != folder:
            os.rmdir(tempfile.mkdtemp(dir=parent, prefix=".edgeinspect-"))
        with tempfile.TemporaryFile(dir=parent) as file:
            if needed_bytes:
                os.posix_fallocate(file.fileno(), 0, needed_bytes)
    except OSError as error:
        free_bytes = _free_bytes(parent)
        raise SpoolError(
            f"spool.folder: needs {needed_bytes >> 20} MiB for spool and rings: {error.strerror}"
            + (f"; {free_bytes >> 20} MiB are free" if free_bytes is not None else ""),
            where=str(folder),
            remedy="Give the daemon's user this folder, or set spool.folder; with too little room "
            "enlarge it, or set spool.slots or capture.ring_slots lower",
        ) from error


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free_bytes(folder: Path) -> int | None:
    try:
        stats = os.statvfs(folder)
    except OSError:
        return None
    return stats.f_bavail * stats.f_frsize


def _check_keys(config: LineConfig) -> None:
    if config.publish.curve:
        read_server_keys(Path(config.publish.curve))


def _check_address(path: str, address: str, line_folder: Path) -> None:
    """Bind an address and release it, unless its folder will be created by the line."""
    parent = Path(address.removeprefix("ipc://")).parent
    if address.startswith("ipc://") and parent == line_folder and not parent.is_dir():
        return
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = context.socket(zmq.XPUB)
        try:
            bound = bind(socket, address, path)
        finally:
            socket.close(0)
        bound.release()
    finally:
        context.term()
