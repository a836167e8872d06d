"""`edgeinspect archive`: archive images of a line, list them, export them with labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeinspect.cli._command import Group
from edgeinspect.cli._json_output import json_option, print_json_line, print_result
from edgeinspect.cli._options import (
    CHECK_FILE,
    LIMIT,
    LOG_FORMAT,
    LOG_LEVEL,
    SINCE,
    STORE,
    UNTIL,
    with_options,
)
from edgeinspect.cli._paths import ARCHIVE, ARCHIVE_FILE, CORRECTIONS, MODEL, OUTPUT_FOLDER
from edgeinspect.cli._progress import QUIET, progress_bar
from edgeinspect.cli._ranges import IntRange
from edgeinspect.cli._results.archive import ArchiveCheck, ArchivedFrame, ArchiveExport, ArchiveLoss
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    format_number_of,
    format_time,
    number,
    print_facts,
    print_table,
    print_text,
)
from edgeinspect.cli._terminal import echo, echo_json
from edgeinspect.domain import Decision
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK
from edgeinspect.storage.archive import ArchiveCategory
from edgeinspect.system import TEXT_BYTES_MAX, format_local, format_utc, log, read_regular

if TYPE_CHECKING:
    from edgeinspect.storage.archive import FrameQuery, Sidecar


@click.group(
    cls=Group,
    examples=[
        ("Archive a line's images until Ctrl-C", "edgeinspect archive run archive.yaml"),
        (
            "Export a week's rejects with labels",
            "edgeinspect archive export archive --out set --since 7d --kind reject",
        ),
    ],
)
def archive() -> None:
    """Archive the images of a line that are worth keeping.

    ARCHIVE_FILE is the archive's configuration, ARCHIVE the folder that it names. See
    docs/howto/archive.md.
    """


@archive.command(
    examples=[("Archive a line's images until Ctrl-C", "edgeinspect archive run archive.yaml")]
)
@click.argument("file", metavar="ARCHIVE_FILE", type=ARCHIVE_FILE)
@CHECK_FILE
@LOG_FORMAT
@LOG_LEVEL
def run(file: Path, only_check: bool, log_format: str, log_level: str) -> None:
    """Run the archive that ARCHIVE_FILE describes.

    Ends with 0 when stopped by SIGTERM or Ctrl-C. It waits for a line that is not running, and
    for a disk that cannot be written.
    """
    if only_check:
        from edgeinspect.services.archiver.config import load_archive_config

        echo(f"the file is valid: line {load_archive_config(file).feed.line}")
        return
    from edgeinspect.services.archiver.service import run_archiver

    log.configure(log_format, log_level)
    run_archiver(file)


_filter_options = with_options(
    SINCE,
    UNTIL,
    click.option(
        "--kind",
        "kinds",
        multiple=True,
        metavar="KIND",
        type=click.Choice([kind.value for kind in ArchiveCategory]),
        help=f"Kept as {', '.join(kind.value for kind in ArchiveCategory)}. Repeatable.",
    ),
    click.option(
        "--decision", type=click.Choice([d.value for d in Decision]), help="With this decision."
    ),
    click.option("--class", "label", metavar="NAME", help="Whose worst region has this class."),
    click.option("--camera", metavar="NAME", help="Of this camera."),
)


def _parse_query(limit: int | None, filters: dict[str, Any]) -> FrameQuery:
    from edgeinspect.storage.archive import FrameQuery

    kinds = tuple(ArchiveCategory(kind) for kind in filters.pop("kinds"))
    return FrameQuery(kinds=kinds, limit=limit, **filters)


@archive.command(
    "list",
    examples=[
        ("List the latest rejects", "edgeinspect archive list archive --kind reject --limit 10"),
        ("List what has no image, by hour", "edgeinspect archive list archive --lost"),
    ],
)
@click.argument("folder", metavar="ARCHIVE", type=ARCHIVE)
@_filter_options
@LIMIT
@json_option(
    "edgeinspect.cli._results.archive:ArchivedFrame",
    "edgeinspect.cli._results.archive:ArchiveLoss",
    lines=True,
)
@click.option("--lost", is_flag=True, help="List instead, by hour, what has no image.")
def list_(folder: Path, limit: int, as_json: bool, lost: bool, **filters: Any) -> None:
    """List frames of ARCHIVE, the newest first."""
    from edgeinspect.storage.archive import find_frames

    if lost:
        _print_losses(folder, as_json)
        return
    rows = find_frames(folder, _parse_query(limit, filters))
    table = TextTable(
        Column("frame", fixed=True),
        Column("captured", fixed=True),
        Column("kind", fixed=True),
        Column("class", optional=True),
        number("p", optional=True),
        Column("decision", optional=True),
        Column("reason", optional=True),
        number("KiB", optional=True),
    )
    for row in rows:
        if as_json:
            fields = {name: getattr(row, name) for name in row.__slots__}
            at = format_utc(row.captured_at_utc_ns)
            more = {"kind": row.kind.value, "name": row.name, "captured_at": at}
            print_json_line(ArchivedFrame(**{**fields, **more}))
        else:
            table.add_row(
                row.name,
                format_time(row.captured_at_utc_ns),
                row.kind.value,
                row.label,
                "" if row.defect_prob is None else f"{row.defect_prob:.2f}",
                row.decision,
                row.reason,
                row.size_bytes // 1024,
            )
    if not as_json:
        print_table(table, empty="no frames in this archive, or none with these properties")
        if len(table) == limit:
            echo(f"These are the newest {limit}: --limit shows more.", err=True)


def _print_losses(folder: Path, as_json: bool) -> None:
    from edgeinspect.storage.archive import read_losses, read_marker

    read_marker(folder)
    table = TextTable("hour", "kind", "why", number("frames"))
    for hour, kind, why, count in read_losses(folder):
        utc_ns = hour * 3_600_000_000_000
        if as_json:
            at = format_utc(utc_ns)
            print_json_line(ArchiveLoss(hour=at, kind=kind, why=why, frames=count))
        else:
            table.add_row(format_time(utc_ns), kind, why, count)
    if not as_json:
        print_table(table, empty="no frame is without its image")


@archive.command(
    examples=[("Show one frame by its number", "edgeinspect archive show archive 4711")]
)
@click.argument("folder", metavar="ARCHIVE", type=ARCHIVE)
@click.argument("frame")
@json_option("edgeinspect.storage.archive:Sidecar")
def show(folder: Path, frame: str, as_json: bool) -> None:
    """Show the record of FRAME: its name in the list, or its seq."""
    from edgeinspect.storage.archive import find_frame

    path, sidecar = find_frame(folder, frame)
    if as_json:
        echo_json(read_regular(path, TEXT_BYTES_MAX))
    else:
        print_facts(_frame_facts(path, sidecar))


def _frame_facts(path: Path, sidecar: Sidecar) -> list[tuple[str, str]]:
    verdict, image = sidecar.verdict, sidecar.picture
    facts = [
        ("image", str(path.with_name(image.file))),
        ("captured", format_local(verdict.captured_at_utc_ns, "milliseconds")),
        ("kept as", sidecar.kind.value),
        ("decision", f"{verdict.decision.value} ({verdict.reason.value}) {verdict.detail}".strip()),
        ("gate", "-" if verdict.defect_prob is None else f"{verdict.defect_prob:.4f}"),
    ]
    facts += [("gate", f"{one.name} {one.prob:.4f}") for one in verdict.kind_probs]
    if (check := verdict.unknown_check) is not None and check.prob is not None:
        facts.append(("unknown", f"{check.prob:.4f}{', for review' if check.review else ''}"))
    for ref in (verdict.gate, verdict.segmenter, verdict.unknown_model):
        if ref is not None:
            facts.append(("model", f"{ref.name}/{ref.version} {ref.calibration or ''}".strip()))
    for region in verdict.regions:
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
        ("part", verdict.part_id or "-"),
        ("mask", "yes" if sidecar.mask is not None else "no"),
        (
            "file",
            f"{image.size_bytes} bytes, {'lossless' if image.lossless else 'lossy'}, "
            f"sha256 {image.sha256}",
        ),
    ]
    return facts


@archive.command(
    examples=[
        (
            "Export a week's rejects, to train on",
            "edgeinspect archive export archive --out set --since 7d --kind reject",
        ),
        (
            "Again, with the labels that a person corrected",
            "edgeinspect archive export archive --out set2 --corrections labels.csv",
        ),
    ],
)
@click.argument("folder", metavar="ARCHIVE", type=ARCHIVE)
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    type=OUTPUT_FOLDER,
    help="A new folder for the data set.",
)
@click.option(
    "--layout",
    type=click.Choice(["mask-folder", "severstal"]),
    default="mask-folder",
    show_default=True,
    help="Layout of the data set.",
)
@_filter_options
@click.option("--limit", metavar="N", type=IntRange(1), help="At most this many, the newest.")
@click.option(
    "--corrections",
    metavar="FILE.csv",
    type=CORRECTIONS,
    help="CSV file of a person's corrections: frame,label,mask.",
)
@click.option(
    "--segmenter",
    metavar="MODEL",
    type=MODEL,
    help="Predicts the masks that the archive lacks.",
)
@click.option(
    "--backend", metavar="NAME", default="ov", show_default=True, help="Backend of the segmenter."
)
@STORE
@QUIET
@json_option("edgeinspect.cli._results.archive:ArchiveExport")
def export(
    folder: Path,
    out: Path,
    layout: str,
    limit: int | None,
    corrections: Path | None,
    segmenter: str | None,
    backend: str,
    store: Path | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Write frames of ARCHIVE with labels, as a data set.

    The set is for training and calibration. Labels are the line's own verdicts unless a person
    corrects them: review the labels.csv that is written, fill in its column `label`, and
    export again with --corrections.
    """
    from edgeinspect.learning.datasets import read_corrections
    from edgeinspect.learning.evaluate import load_engine
    from edgeinspect.storage.model_store import ModelStore
    from edgeinspect.tools.archive_export import export_dataset

    corrected = read_corrections(corrections) if corrections is not None else {}
    engine = None
    if segmenter is not None:
        engine = load_engine(segmenter, backend, store=ModelStore(store) if store else None)
    try:
        with progress_bar("exporting images") as progress:
            exported = export_dataset(
                folder, out, layout, _parse_query(limit, filters), corrected, engine, progress
            )
    finally:
        if engine is not None:
            engine.close()
    for note in exported.notes:
        echo(note, err=True)
    result = ArchiveExport(
        folder=str(out),
        images=exported.image_count,
        defective=exported.defective_count,
        classes=list(exported.classes),
        notes=list(exported.notes),
    )
    print_result(
        result,
        as_json,
        lambda it: print_text(
            f"{format_number_of(it.images, 'image')}, {it.defective} of them defective, "
            f"in {it.folder}; classes: {', '.join(it.classes) or 'none'}"
        ),
    )


@archive.command(
    examples=[("Prove that no image was damaged", "edgeinspect archive check archive")]
)
@click.argument("folder", metavar="ARCHIVE", type=ARCHIVE)
@json_option("edgeinspect.cli._results.archive:ArchiveCheck")
def check(folder: Path, as_json: bool) -> int:
    """Read every image of ARCHIVE and compare it with its hash.

    Ends with 65 if one differs. The archive may be running.
    """
    from edgeinspect.storage.archive import check_integrity

    integrity = check_integrity(folder)
    for path in integrity.broken:
        echo(f"{path}: differs from what was saved", err=True)
    result = ArchiveCheck(
        intact=integrity.frames, broken=list(integrity.broken), unindexed=integrity.unindexed
    )
    print_result(
        result,
        as_json,
        lambda it: print_text(
            f"{format_number_of(it.intact, 'frame is', 'frames are')} intact, "
            f"{len(it.broken)} broken, {it.unindexed} not in the index yet"
        ),
    )
    return EXIT_DATAERR if integrity.broken else EXIT_OK
