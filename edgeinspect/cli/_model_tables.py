"""Tables of `edgeinspect models`: versions, and comparisons in shadow."""

from __future__ import annotations

import msgspec
from rich.text import Text

from edgeinspect.cli._results.models import ModelEntry, ModelList, ShadowPair
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    format_count,
    format_number_of,
    number,
    print_table,
    print_text,
)
from edgeinspect.errors import EdgeInspectError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelManifest,
    ModelVersions,
    VersionState,
    read_manifest,
)
from edgeinspect.storage.shadow_results import ShadowComparison
from edgeinspect.system import format_utc

_MAX_SHOWN_SEQS = 40
_COLORS = {"live": "bold green", "shadow": "cyan", "candidate": "dim"}


def version_entry(versions: ModelVersions, state: VersionState, version: int) -> ModelEntry:
    """Return one version for a table or JSON."""
    entry = ModelEntry(
        model=f"{versions.name}/{version}",
        state=state.stage_of(version).value,
        was_live=version in state.before,
        problem="",
        manifest=None,
    )
    try:
        manifest = read_manifest(versions.folder / str(version) / MANIFEST_FILE)
        versions.check_approved(version, state)
        entry.manifest = msgspec.to_builtins(manifest)
    except EdgeInspectError as error:
        entry.problem = str(error)
    return entry


def show_models(result: ModelList) -> None:
    """Print `models list`."""
    table = TextTable(
        Column("model", fixed=True),
        Column("state", fixed=True),
        Column("kind", fixed=True),
        Column("precision", fixed=True),
        number("MB"),
        Column("p50/p99 ms", optional=True, fixed=True),
        Column("made", optional=True, fixed=True),
        Column("golden", optional=True, fixed=True),
        Column("calibration", optional=True, fixed=True),
    )
    for entry in result.models:
        table.add_row(*_model_cells(entry))
    print_table(table, empty="the store has no models")
    store = TextTable(Column("", fixed=True), Column("", is_path=True))
    store.add_row(Text("store", style="dim"), result.store)
    print_table(store)
    for entry in result.models:
        if entry.problem:
            print_text(f"{entry.model}: {entry.problem}")


def _model_cells(entry: ModelEntry) -> list[str | Text]:
    stage_text = Text(entry.state, style=_COLORS[entry.state])
    if entry.was_live and entry.state == "candidate":
        stage_text = Text("was live", style="dim")
    if entry.manifest is None:
        return [entry.model, stage_text, Text("REFUSED", style="bold red")]
    manifest = msgspec.convert(entry.manifest, ModelManifest)
    latency = ", ".join(
        f"{each.backend} {each.p50_us / 1000:.1f}/{each.p99_us / 1000:.1f}"
        for each in manifest.latency
    )
    return [
        entry.model,
        stage_text,
        manifest.kind.value,
        manifest.precision.value,
        f"{manifest.size_bytes / 1e6:.1f}",
        latency,
        manifest.created,
        "yes" if manifest.golden else "",
        manifest.calibration or "",
    ]


def shadow_pair(comparison: ShadowComparison) -> ShadowPair:
    """Return a comparison as `--json` prints it."""
    return ShadowPair(
        live=comparison.live,
        shadow=comparison.shadow,
        frames=comparison.frames,
        both_reject=comparison.both_reject,
        only_live_rejects=comparison.only_live_rejects,
        only_shadow_rejects=comparison.only_shadow_rejects,
        classes=msgspec.to_builtins(comparison.classes),
        differing=comparison.differing,
        seqs=comparison.seqs,
        p99_us=comparison.p99_us,
        last_at=format_utc(comparison.last_at_utc_ns),
    )


def print_comparison(comparison: ShadowComparison) -> None:
    """Print a comparison: rejects, each defect class, and the frames that differ."""
    from edgeinspect.learning.evaluate import wilson_interval

    def ratio_text(hits: int, total: int) -> str:
        low, high = wilson_interval(hits, total)
        return f"{hits / total:.2%} ({low:.2%} to {high:.2%})" if total else "-"

    table = TextTable(
        "",
        number("both"),
        number("only live"),
        number("only shadow"),
        number("missed (95 %)"),
        number("different (95 %)"),
        title=f"{comparison.shadow}  in shadow of  {comparison.live}",
    )
    rejects = (comparison.both_reject, comparison.only_live_rejects, comparison.only_shadow_rejects)
    rows = [("reject", rejects)] + [
        (name, (count.both, count.only_live, count.only_shadow))
        for name, count in sorted(comparison.classes.items())
    ]
    for name, (both, live, shadow) in rows:
        missed = ratio_text(live, both + live)
        table.add_row(
            name, both, live, shadow, missed, ratio_text(live + shadow, comparison.frames)
        )
    print_table(table)
    print_text(
        "missed: by the candidate, of what the live version finds; different: of all "
        f"{format_number_of(comparison.frames, 'frame')}"
    )
    print_text(f"p99 {comparison.p99_us / 1000:.1f} ms per frame in idle time")
    if comparison.differing:
        listed = ", ".join(map(str, comparison.seqs[:_MAX_SHOWN_SEQS]))
        more = comparison.differing - min(len(comparison.seqs), _MAX_SHOWN_SEQS)
        rest = f" and {format_count(more)} more (--json)" if more else ""
        print_text(f"different frames: {listed}{rest}")
