"""What is to be judged, frozen before the first frame: an archive that grows changes no plan.

OUT/plan.json       the request and its figures; written last, so it says the rest is whole
OUT/frames.jsonl    a line per chunk of frames
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgeinspect.domain import Int64
from edgeinspect.errors import DataError
from edgeinspect.imaging import load_declaration
from edgeinspect.learning.datasets import find_bit_depth, images_below
from edgeinspect.services.archiver.files import write_atomically
from edgeinspect.storage.archive import FrameQuery, find_frames, is_archive, read_sidecar
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    DecodeError,
    decode_json,
    escape_name,
    open_regular,
    read_regular,
    sha256_of,
)

PLAN_FILE, FRAMES_FILE, RESULTS_FOLDER = "plan.json", "frames.jsonl", "parts"


class RescoreFrame(msgspec.Struct, frozen=True, array_like=True):
    """One frame to judge."""

    name: str
    path: str
    """Of its picture, below the source."""
    decision: str = ""
    """What the line said; empty for a folder that is no archive."""
    defect_prob: float | None = None
    bits: int | None = None
    """Of the source's pictures, found over all of them; see `imaging.reading`."""
    flat_end: bool = False


class RescorePlan(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.rescore/1"
):
    """The whole run."""

    source: str
    model: str
    model_sha256: str
    backend: str
    frames: Int64
    chunks: Int64
    chunk_frames: Int64
    frames_sha256: str
    """Of `frames.jsonl`."""


def open_plan(
    out: Path, source: Path, *, model: str, sha256: str, backend: str, chunk_frames: int
) -> RescorePlan:
    """The plan of a run: the one that is there, or a new one.

    Raises:
        DataError: There is no frame, or `out` holds another run.
        OSError: It cannot be written.
    """
    path = out / PLAN_FILE
    where = escape_name(source.absolute())
    if path.exists():
        plan = read_plan(out)
        for name, mine, theirs in (
            ("frames", where, plan.source),
            ("model", sha256, plan.model_sha256),
            ("backend", backend, plan.backend),
        ):
            if mine != theirs:
                raise DataError(
                    f"holds a run with another {name}: {theirs}",
                    where=str(out),
                    remedy="Name a new folder",
                )
        return plan
    (out / RESULTS_FOLDER).mkdir(parents=True, exist_ok=True)
    frames = list(_list_frames(source))
    if not frames:
        raise DataError("holds no frame", where=where)
    chunks = [frames[at : at + chunk_frames] for at in range(0, len(frames), chunk_frames)]
    text = b"".join(msgspec.json.encode(chunk) + b"\n" for chunk in chunks)
    write_atomically(out / FRAMES_FILE, text)
    plan = RescorePlan(
        source=where,
        model=model,
        model_sha256=sha256,
        backend=backend,
        frames=len(frames),
        chunks=len(chunks),
        chunk_frames=chunk_frames,
        frames_sha256=hashlib.sha256(text).hexdigest(),
    )
    write_atomically(path, msgspec.json.format(msgspec.json.encode(plan)) + b"\n")
    return plan


def read_plan(out: Path) -> RescorePlan:
    """The plan of a run.

    Raises:
        DataError: There is none, or its list of frames is not what it was.
    """
    try:
        plan = decode_json(read_regular(out / PLAN_FILE, TEXT_BYTES_MAX), RescorePlan)
        found = sha256_of(out / FRAMES_FILE)
    except (OSError, DecodeError) as error:
        raise DataError(f"holds no run: {error}", where=str(out)) from error
    if found != plan.frames_sha256:
        raise DataError(
            "is not the list that the plan was made with",
            where=str(out / FRAMES_FILE),
            remedy="Begin again in a new folder",
        )
    return plan


def read_chunks(out: Path) -> Iterator[tuple[int, list[RescoreFrame]]]:
    """(number, frames) of every chunk, in order."""
    with open_regular(out / FRAMES_FILE) as file:
        for number, line in enumerate(file):
            try:
                yield number, decode_json(line, list[RescoreFrame])
            except DecodeError as error:
                raise DataError(
                    f"chunk {number} cannot be read: {error}", where=str(out / FRAMES_FILE)
                ) from error


def chunk_result_path(out: Path, number: int) -> Path:
    """Where the results of a chunk stand, once it is done."""
    return out / RESULTS_FOLDER / f"{number:08d}.jsonl"


def pending_chunks(out: Path) -> Iterator[tuple[int, list[RescoreFrame]]]:
    """The chunks that are not done."""
    return (
        (number, frames)
        for number, frames in read_chunks(out)
        if not chunk_result_path(out, number).exists()
    )


def batches(
    todo: Iterable[tuple[int, list[RescoreFrame]]], size: int
) -> Iterator[list[tuple[int, list[RescoreFrame]]]]:
    """Some chunks at a time, so that a plan of millions of frames is never in memory whole."""
    todo = iter(todo)
    while wave := list(itertools.islice(todo, size)):
        yield wave


def _list_frames(source: Path) -> Iterator[RescoreFrame]:
    if not is_archive(source):
        paths = images_below(source)
        depth = find_bit_depth(paths, load_declaration(source), escape_name(source))
        for path in paths:
            name = escape_name(path.relative_to(source).as_posix())
            yield RescoreFrame(name, name, bits=depth.bits, flat_end=depth.flat_end)
        return
    for row in reversed(find_frames(source, FrameQuery())):
        below = row.path.rpartition("/")[0]
        told = read_sidecar(source / row.path)
        # The archive wrote it, of 8 bits and whole; its black is the camera's.
        yield RescoreFrame(
            row.name,
            f"{below}/{told.picture.file}",
            row.decision,
            row.defect_prob,
            8,
            flat_end=True,
        )
