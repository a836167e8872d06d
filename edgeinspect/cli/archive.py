"""`edgeinspect archive`: keep pictures of a line, look at them, and export them with labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console, echo, echo_json
from edgeinspect.cli._timestamps import parse_timestamp
from edgeinspect.domain import Decision
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK
from edgeinspect.storage.archive import Category
from edgeinspect.system import TEXT_BYTES_MAX, escape_line, log, read_regular

if TYPE_CHECKING:
    from edgeinspect.storage.archive import FrameQuery, Sidecar

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PIPE_WIDTH = 240
_MIB = 1 << 20
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def archive() -> None:
    """Keep the pictures of a line that are worth keeping.

    ARCHIVE is the folder that an archive's configuration names. See docs/archive.md.
    """


@archive.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json", "journal"]),
    default="auto",
    show_default=True,
    help="How the log is written.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def run(file: Path, log_format: str, log_level: str) -> None:
    """Run the archive described in FILE.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. A line that is away, and a disk that takes
    nothing, are waited for.
    """
    from edgeinspect.services.archiver.service import run_archiver as run_archive

    log.configure(log_format, log_level)
    run_archive(file)


def _filter_options(command: Command) -> Command:
    """The options by which frames are chosen."""
    for option in reversed(
        (
            click.option("--since", help="From this time on: 2026-01-31T06:00 (UTC), or -2h."),
            click.option("--until", help="Before this time."),
            click.option(
                "--kind",
                "kinds",
                multiple=True,
                type=click.Choice([kind.value for kind in Category]),
                help="Repeatable.",
            ),
            click.option("--decision", type=click.Choice([d.value for d in Decision])),
            click.option("--class", "label", help="Whose worst region is of this class."),
            click.option("--camera"),
        )
    ):
        command = option(command)
    return command


def _parse_query(limit: int | None, words: dict[str, Any]) -> FrameQuery:
    from edgeinspect.storage.archive import FrameQuery

    return FrameQuery(
        since_utc_ns=parse_timestamp(words["since"]),
        until_utc_ns=parse_timestamp(words["until"]),
        kinds=tuple(Category(kind) for kind in words["kinds"]),
        decision=words["decision"],
        label=words["label"],
        camera=words["camera"],
        limit=limit,
    )


@archive.command("list")
@click.argument("folder", metavar="ARCHIVE", type=_FOLDER)
@_filter_options
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--lost", is_flag=True, help="What has no picture, by hour, instead.")
def list_(folder: Path, limit: int, as_json: bool, lost: bool, **words: Any) -> None:
    """List frames of ARCHIVE, the newest first."""
    from edgeinspect.storage.archive import find_frames

    if lost:
        _print_losses(folder, as_json)
        return
    rows = find_frames(folder, _parse_query(limit, words))
    table = Table(
        "frame",
        "captured",
        "kind",
        "class",
        "decision",
        "reason",
        "p",
        "KiB",
        box=None,
        pad_edge=False,
    )
    for row in rows:
        if as_json:
            fields = {name: getattr(row, name) for name in row.__slots__}
            echo(json.dumps({**fields, "kind": row.kind.value, "name": row.name}))
        else:
            prob = "" if row.defect_prob is None else f"{row.defect_prob:.2f}"
            table.add_row(
                _plain_text(row.name),
                _format_time(row.captured_at_utc_ns),
                row.kind.value,
                _plain_text(row.label),
                row.decision,
                row.reason,
                prob,
                str(row.size_bytes // 1024),
            )
    if not as_json:
        _console().print(table)


def _print_losses(folder: Path, as_json: bool) -> None:
    from edgeinspect.storage.archive import read_losses, read_marker

    read_marker(folder)
    table = Table("hour", "kind", "why", "frames", box=None, pad_edge=False)
    for hour, kind, why, count in read_losses(folder):
        at = _format_time(hour * 3_600_000_000_000)
        if as_json:
            echo(json.dumps({"hour": at, "kind": kind, "why": why, "frames": count}))
        else:
            table.add_row(at, kind, why, str(count))
    if not as_json:
        _console().print(table)


@archive.command()
@click.argument("folder", metavar="ARCHIVE", type=_FOLDER)
@click.argument("frame")
@click.option("--json", "as_json", is_flag=True, help="The sidecar as it is.")
def show(folder: Path, frame: str, as_json: bool) -> None:
    """Show what is known of FRAME: its name in the list, or its seq."""
    from edgeinspect.storage.archive import find_frame

    path, told = find_frame(folder, frame)
    if as_json:
        echo_json(read_regular(path, TEXT_BYTES_MAX))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _frame_facts(path, told):
        table.add_row(Text(name, style="dim"), _plain_text(value))
    _console().print(table)


def _frame_facts(path: Path, told: Sidecar) -> list[tuple[str, str]]:
    said, picture = told.verdict, told.picture
    facts = [
        ("picture", str(path.with_name(picture.file))),
        ("captured", _format_time(said.captured_at_utc_ns)),
        ("kept as", told.kind.value),
        ("decision", f"{said.decision.value} ({said.reason.value}) {said.detail}".strip()),
        ("gate", "-" if said.defect_prob is None else f"{said.defect_prob:.4f}"),
    ]
    for ref in (said.gate, said.segmenter):
        if ref is not None:
            facts.append(("model", f"{ref.name}/{ref.version} {ref.calibration or ''}".strip()))
    for region in said.regions:
        box = region.box
        facts.append(
            (
                "region",
                f"{region.class_name} {region.score:.2f}, {region.area_px} px, {region.area_mm2:g} "
                f"mm², at {box.x_px},{box.y_px} {box.width_px}x{box.height_px}"
                f"{'' if region.fatal else ', not fatal'}",
            )
        )
    facts += [
        ("part", said.part_id or "-"),
        ("mask", "yes" if told.mask is not None else "no"),
        (
            "file",
            f"{picture.size_bytes} bytes, {'lossless' if picture.lossless else 'lossy'}, "
            f"sha256 {picture.sha256}",
        ),
    ]
    return facts


@archive.command()
@click.argument("folder", metavar="ARCHIVE", type=_FOLDER)
@click.option("--out", required=True, type=_FOLDER, help="A new folder.")
@click.option(
    "--layout",
    type=click.Choice(["mask-folder", "severstal"]),
    default="mask-folder",
    show_default=True,
)
@_filter_options
@click.option("--limit", type=click.IntRange(1), help="The newest so many.")
@click.option(
    "--corrections",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="CSV file of what a person says: frame,label,mask.",
)
@click.option("--segmenter", metavar="MODEL", help="Draws the masks that the archive lacks.")
@click.option("--backend", default="ov", show_default=True, help="What the segmenter runs on.")
@click.option("--store", type=_FOLDER, help="Where the segmenter's name is looked up.")
def export(
    folder: Path,
    out: Path,
    layout: str,
    limit: int | None,
    corrections: Path | None,
    segmenter: str | None,
    backend: str,
    store: Path | None,
    **words: Any,
) -> None:
    """Write frames of ARCHIVE with their labels, as a data set to train and calibrate with.

    Labels are the line's own verdicts, but for what a person corrects; look through the
    labels.csv that is written, fill its column `label` in, and export again with it.
    """
    from edgeinspect.learning.datasets import read_corrections
    from edgeinspect.learning.evaluate import load_engine
    from edgeinspect.storage.model_store import ModelStore
    from edgeinspect.tools.archive_export import export_dataset as write

    said = read_corrections(corrections) if corrections is not None else {}
    engine = None
    if segmenter is not None:
        engine = load_engine(segmenter, backend, store=ModelStore(store) if store else None)
    try:
        done = write(folder, out, layout, _parse_query(limit, words), said, engine)
    finally:
        if engine is not None:
            engine.close()
    for note in done.notes:
        echo(note, err=True)
    echo(
        f"{done.image_count} pictures, {done.defective_count} of them defective, in {out}; "
        f"classes: {', '.join(done.classes)}"
    )


@archive.command()
@click.argument("folder", metavar="ARCHIVE", type=_FOLDER)
def check(folder: Path) -> int:
    """Read every picture of ARCHIVE and hold it against its hash.

    Ends with 65 if one is not what was saved. The archive may be running.
    """
    from edgeinspect.storage.archive import check_integrity as look

    found = look(folder)
    for path in found.broken:
        echo(f"{path}: is not what was saved", err=True)
    echo(
        f"{found.frames} frames are whole, {len(found.broken)} broken, "
        f"{found.unindexed} not in the index yet"
    )
    return EXIT_DATAERR if found.broken else EXIT_OK


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _plain_text(text: str) -> Text:
    """What came from outside, without markup or control characters for the terminal."""
    return Text(escape_line(text))


def _format_time(utc_ns: int) -> str:
    return f"{datetime.fromtimestamp(utc_ns / 1e9, timezone.utc):%Y-%m-%d %H:%M:%S}Z"
