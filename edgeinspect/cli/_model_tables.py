"""Tables of `edgeinspect models`: versions, and comparisons in shadow."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.text import Text

from edgeinspect.cli._tables import plain_table, wide_console
from edgeinspect.errors import EdgeInspectError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelManifest,
    ModelStage,
    ModelVersions,
    VersionState,
    read_manifest,
)
from edgeinspect.storage.shadow_results import ShadowComparison

_MAX_SHOWN_SEQS = 40
_COLORS = {ModelStage.LIVE: "bold green", ModelStage.SHADOW: "cyan", ModelStage.CANDIDATE: "dim"}


def version_entry(versions: ModelVersions, state: VersionState, version: int) -> dict[str, Any]:
    """Return one version for a table or JSON; `problem` is empty if it is valid."""
    entry: dict[str, Any] = {
        "model": f"{versions.name}/{version}",
        "state": state.stage_of(version).value,
        "problem": "",
        "manifest": None,
    }
    try:
        manifest = read_manifest(versions.folder / str(version) / MANIFEST_FILE)
        versions.check_approved(version, state)
        entry["manifest"] = msgspec.to_builtins(manifest)
    except EdgeInspectError as error:
        entry["problem"] = str(error)
    return entry


def version_row(entry: dict[str, Any], stage: ModelStage, before: bool) -> list[str | Text]:
    """Return a row of `models list`."""
    stage_text = Text(stage.value, style=_COLORS[stage])
    if before and stage is ModelStage.CANDIDATE:
        stage_text = Text("was live", style="dim")
    if entry["manifest"] is None:
        return [entry["model"], stage_text, *[""] * 7, Text("REFUSED", style="bold red")]
    manifest = msgspec.convert(entry["manifest"], ModelManifest)
    latency = ", ".join(
        f"{each.backend} {each.p50_us / 1000:.1f}/{each.p99_us / 1000:.1f}"
        for each in manifest.latency
    )
    return [
        entry["model"],
        stage_text,
        manifest.kind.value,
        manifest.precision.value,
        Text(manifest.calibration or ""),
        Text(manifest.created),
        f"{manifest.size_bytes / 1e6:.1f}",
        Text(latency),
        "yes" if manifest.golden else "",
        "",
    ]


def print_comparison(comparison: ShadowComparison) -> None:
    """Print a comparison: rejects, each defect class, and the frames that differ."""
    from edgeinspect.learning.evaluate import wilson_interval

    def ratio_text(hits: int, total: int) -> str:
        low, high = wilson_interval(hits, total)
        return f"{hits / total:.2%} ({low:.2%} to {high:.2%})" if total else "-"

    console = wide_console()
    console.print(Text(f"{comparison.shadow}  in shadow of  {comparison.live}", style="bold"))
    table = plain_table(
        "",
        "both",
        "only live",
        "only shadow",
        "missed by the candidate (95 %)",
        "different of all frames (95 %)",
    )
    rejects = (comparison.both_reject, comparison.only_live_rejects, comparison.only_shadow_rejects)
    rows = [("reject", rejects)] + [
        (name, (count.both, count.only_live, count.only_shadow))
        for name, count in sorted(comparison.classes.items())
    ]
    for name, (both, live, shadow) in rows:
        table.add_row(
            Text(name),
            str(both),
            str(live),
            str(shadow),
            ratio_text(live, both + live),
            ratio_text(live + shadow, comparison.frames),
        )
    console.print(table)
    console.print(
        f"{comparison.frames} frames, p99 {comparison.p99_us / 1000:.1f} ms per frame in idle time"
    )
    if comparison.differing:
        listed = ", ".join(map(str, comparison.seqs[:_MAX_SHOWN_SEQS]))
        more = comparison.differing - min(len(comparison.seqs), _MAX_SHOWN_SEQS)
        rest = f" and {more} more (--json)" if more else ""
        console.print(Text(f"different frames: {listed}{rest}"))
