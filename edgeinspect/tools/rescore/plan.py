"""The frames of a run, fixed before it starts: frames archived later do not change the plan.

OUT/plan.json       the parameters; written last, so that it marks a complete plan
OUT/frames.jsonl    a line per chunk of frames
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from edgeinspect.domain import Int64
from edgeinspect.errors import DataError, OutputError
from edgeinspect.imaging import load_declaration
from edgeinspect.learning.datasets import find_bit_depth, images_below
from edgeinspect.storage.archive import FrameQuery, find_frames, is_archive, read_sidecar
from edgeinspect.system import (
    TEXT_BYTES_MAX,
    DecodeError,
    decode_json,
    escape_name,
    open_regular,
    read_regular,
    sha256_of,
    write_atomic,
)

PLAN_FILE, FRAMES_FILE, RESULTS_FOLDER = "plan.json", "frames.jsonl", "parts"


class RescoreFrame(msgspec.Struct, frozen=True, array_like=True):
    """One frame to score."""

    name: str
    path: str
    """Path of its image, relative to the source."""
    decision: str = ""
    """The line's decision; empty for a folder that is not an archive."""
    defect_prob: float | None = None
    bits: int | None = None
    """Bit depth of all images of the source; see `imaging.read_settings`."""
    flat_end: bool = False


class RescorePlan(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="edgeinspect.rescore/1"
):
    """Parameters of a run."""

    source: str
    model: str
    model_sha256: str
    backend: str
    frames: Int64
    chunks: Int64
    chunk_frames: Int64
    frames_sha256: str
    """Hash of `frames.jsonl`."""


def open_plan(
    out: Path, source: Path, *, model: str, sha256: str, backend: str, chunk_frames: int
) -> RescorePlan:
    """Return the existing plan of a run, or create one.

    Raises:
        DataError: There is no frame, or `out` contains another run.
        OutputError: `out` has files that are no run's.
        OSError: The plan cannot be written.
    """
    path = out / PLAN_FILE
    where = escape_name(source.absolute())
    if path.exists():
        plan = read_plan(out)
        for name, expected, actual in (
            ("frames", where, plan.source),
            ("model", sha256, plan.model_sha256),
            ("backend", backend, plan.backend),
        ):
            if expected != actual:
                raise DataError(
                    f"contains a run with another {name}: {actual}",
                    where=str(out),
                    remedy="Name a new folder",
                )
        return plan
    own = {RESULTS_FOLDER, FRAMES_FILE}  # of a run that was killed
    present = list(out.iterdir()) if out.exists() else []
    if any(each.name not in own and each.name[0] != "." for each in present):
        raise OutputError("is not empty", where=str(out), remedy="Give a new folder")
    (out / RESULTS_FOLDER).mkdir(parents=True, exist_ok=True)
    frames = list(_list_frames(source))
    if not frames:
        raise DataError("contains no frame", where=where)
    chunks = [frames[at : at + chunk_frames] for at in range(0, len(frames), chunk_frames)]
    text = b"".join(msgspec.json.encode(chunk) + b"\n" for chunk in chunks)
    write_atomic(out / FRAMES_FILE, text)
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
    write_atomic(path, msgspec.json.format(msgspec.json.encode(plan)) + b"\n")
    return plan


def read_plan(out: Path) -> RescorePlan:
    """Return the plan of a run.

    Raises:
        DataError: There is no plan, or its list of frames has changed.
    """
    try:
        plan = decode_json(read_regular(out / PLAN_FILE, TEXT_BYTES_MAX), RescorePlan)
        frames_sha256 = sha256_of(out / FRAMES_FILE)
    except (OSError, DecodeError) as error:
        raise DataError(f"contains no run: {error}", where=str(out)) from error
    if frames_sha256 != plan.frames_sha256:
        raise DataError(
            "is not the list of frames that the plan was created with",
            where=str(out / FRAMES_FILE),
            remedy="Start again in a new folder",
        )
    return plan


def read_chunks(out: Path) -> Iterator[tuple[int, list[RescoreFrame]]]:
    """Yield (number, frames) of every chunk, in order."""
    with open_regular(out / FRAMES_FILE) as file:
        for number, line in enumerate(file):
            try:
                yield number, decode_json(line, list[RescoreFrame])
            except DecodeError as error:
                raise DataError(
                    f"chunk {number} cannot be read: {error}", where=str(out / FRAMES_FILE)
                ) from error


def chunk_result_path(out: Path, number: int) -> Path:
    """Return the result file of a chunk; it exists once the chunk is done."""
    return out / RESULTS_FOLDER / f"{number:08d}.jsonl"


def pending_chunks(out: Path) -> Iterator[tuple[int, list[RescoreFrame]]]:
    """Yield the chunks without a result file."""
    return (
        (number, frames)
        for number, frames in read_chunks(out)
        if not chunk_result_path(out, number).exists()
    )


def batches(
    todo: Iterable[tuple[int, list[RescoreFrame]]], size: int
) -> Iterator[list[tuple[int, list[RescoreFrame]]]]:
    """Yield several chunks at a time; a plan of millions of frames never is in memory at once."""
    todo = iter(todo)
    while batch := list(itertools.islice(todo, size)):
        yield batch


def _list_frames(source: Path) -> Iterator[RescoreFrame]:
    if not is_archive(source):
        paths = images_below(source)
        depth = find_bit_depth(paths, load_declaration(source), escape_name(source))
        for path in paths:
            name = escape_name(path.relative_to(source).as_posix())
            yield RescoreFrame(name, name, bits=depth.bits, flat_end=depth.flat_end)
        return
    for row in reversed(find_frames(source, FrameQuery())):
        folder = row.path.rpartition("/")[0]
        sidecar = read_sidecar(source / row.path)
        # The archive writes 8 bits; its black level is the camera's.
        yield RescoreFrame(
            row.name,
            f"{folder}/{sidecar.picture.file}",
            row.decision,
            row.defect_prob,
            8,
            flat_end=True,
        )
