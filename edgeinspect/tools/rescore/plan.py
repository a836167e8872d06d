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

from edgeinspect.domain.numbers import Int64
from edgeinspect.errors import DataError
from edgeinspect.imaging.read_settings import declared
from edgeinspect.learning.datasets.bit_depth import find_depth
from edgeinspect.learning.datasets.files import pictures_below
from edgeinspect.services.archiver.files import write_whole
from edgeinspect.storage.archive.format import is_archive, read_sidecar
from edgeinspect.storage.archive.reader import Wanted, find
from edgeinspect.system.decoding import DecodeError, decode_json
from edgeinspect.system.regular_file import (
    TEXT_BYTES_MAX,
    open_regular,
    printable,
    read_regular,
    sha256_of,
)

PLAN, FRAMES, PARTS = "plan.json", "frames.jsonl", "parts"


class Frame(msgspec.Struct, frozen=True, array_like=True):
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


class Plan(
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
) -> Plan:
    """The plan of a run: the one that is there, or a new one.

    Raises:
        DataError: There is no frame, or `out` holds another run.
        OSError: It cannot be written.
    """
    path = out / PLAN
    where = printable(source.absolute())
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
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    frames = list(_frames(source))
    if not frames:
        raise DataError("holds no frame", where=where)
    chunks = [frames[at : at + chunk_frames] for at in range(0, len(frames), chunk_frames)]
    text = b"".join(msgspec.json.encode(chunk) + b"\n" for chunk in chunks)
    write_whole(out / FRAMES, text)
    plan = Plan(
        source=where,
        model=model,
        model_sha256=sha256,
        backend=backend,
        frames=len(frames),
        chunks=len(chunks),
        chunk_frames=chunk_frames,
        frames_sha256=hashlib.sha256(text).hexdigest(),
    )
    write_whole(path, msgspec.json.format(msgspec.json.encode(plan)) + b"\n")
    return plan


def read_plan(out: Path) -> Plan:
    """The plan of a run.

    Raises:
        DataError: There is none, or its list of frames is not what it was.
    """
    try:
        plan = decode_json(read_regular(out / PLAN, TEXT_BYTES_MAX), Plan)
        found = sha256_of(out / FRAMES)
    except (OSError, DecodeError) as error:
        raise DataError(f"holds no run: {error}", where=str(out)) from error
    if found != plan.frames_sha256:
        raise DataError(
            "is not the list that the plan was made with",
            where=str(out / FRAMES),
            remedy="Begin again in a new folder",
        )
    return plan


def chunks(out: Path) -> Iterator[tuple[int, list[Frame]]]:
    """(number, frames) of every chunk, in order."""
    with open_regular(out / FRAMES) as file:
        for number, line in enumerate(file):
            try:
                yield number, decode_json(line, list[Frame])
            except DecodeError as error:
                raise DataError(
                    f"chunk {number} cannot be read: {error}", where=str(out / FRAMES)
                ) from error


def part_path(out: Path, number: int) -> Path:
    """Where the results of a chunk stand, once it is done."""
    return out / PARTS / f"{number:08d}.jsonl"


def missing(out: Path) -> Iterator[tuple[int, list[Frame]]]:
    """The chunks that are not done."""
    return (
        (number, frames) for number, frames in chunks(out) if not part_path(out, number).exists()
    )


def waves(
    todo: Iterable[tuple[int, list[Frame]]], size: int
) -> Iterator[list[tuple[int, list[Frame]]]]:
    """Some chunks at a time, so that a plan of millions of frames is never in memory whole."""
    todo = iter(todo)
    while wave := list(itertools.islice(todo, size)):
        yield wave


def _frames(source: Path) -> Iterator[Frame]:
    if not is_archive(source):
        paths = pictures_below(source)
        depth = find_depth(paths, declared(source), printable(source))
        for path in paths:
            name = printable(path.relative_to(source).as_posix())
            yield Frame(name, name, bits=depth.bits, flat_end=depth.flat_end)
        return
    for row in reversed(find(source, Wanted())):
        below = row.path.rpartition("/")[0]
        told = read_sidecar(source / row.path)
        # The archive wrote it, of 8 bits and whole; its black is the camera's.
        yield Frame(
            row.name,
            f"{below}/{told.picture.file}",
            row.decision,
            row.defect_prob,
            8,
            flat_end=True,
        )
