"""How `edgeinspect engines` shows versions and comparisons."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console
from edgeinspect.errors import EdgeInspectError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelManifest,
    ModelVersions,
    Stage,
    VersionState,
    read_manifest,
)
from edgeinspect.storage.shadow_results import ShadowComparison

_PIPE_WIDTH = 240
_MAX_SHOWN_SEQS = 40
_COLORS = {Stage.LIVE: "bold green", Stage.SHADOW: "cyan", Stage.CANDIDATE: "dim"}


def wide_console() -> Console:
    """As wide as the terminal; wide where nobody looks."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def plain_table(*heads: str) -> Table:
    """A table without lines."""
    return Table(*heads, box=None, pad_edge=False)


def version_entry(shelf: ModelVersions, register: VersionState, version: int) -> dict[str, Any]:
    """One version, for a table or JSON; what is wrong with it stands under `problem`."""
    entry: dict[str, Any] = {
        "model": f"{shelf.name}/{version}",
        "state": register.stage_of(version).value,
        "problem": "",
        "manifest": None,
    }
    try:
        manifest = read_manifest(shelf.folder / str(version) / MANIFEST_FILE)
        shelf.check_approved(version, register)
        entry["manifest"] = msgspec.to_builtins(manifest)
    except EdgeInspectError as error:
        entry["problem"] = str(error)
    return entry


def version_row(entry: dict[str, Any], state: Stage, before: bool) -> list[str | Text]:
    """A row of `engines list`."""
    word = Text(state.value, style=_COLORS[state])
    if before and state is Stage.CANDIDATE:
        word = Text("was live", style="dim")
    if entry["manifest"] is None:
        return [entry["model"], word, *[""] * 7, Text("REFUSED", style="bold red")]
    manifest = msgspec.convert(entry["manifest"], ModelManifest)
    latency = ", ".join(
        f"{each.backend} {each.p50_us / 1000:.1f}/{each.p99_us / 1000:.1f}"
        for each in manifest.latency
    )
    return [
        entry["model"],
        word,
        manifest.kind.value,
        manifest.precision.value,
        Text(manifest.calibration or ""),
        Text(manifest.created),
        f"{manifest.size_bytes / 1e6:.1f}",
        Text(latency),
        "yes" if manifest.golden else "",
        "",
    ]


def comparison_dict(one: ShadowComparison) -> dict[str, Any]:
    """A comparison for JSON."""
    told: dict[str, Any] = msgspec.to_builtins(one)
    return told


def print_comparison(one: ShadowComparison) -> None:
    """Print a comparison: rejects, then each defect type, then the frames that differ."""
    from edgeinspect.learning.evaluate import wilson_interval

    def share(hits: int, total: int) -> str:
        low, high = wilson_interval(hits, total)
        return f"{hits / total:.2%} ({low:.2%} to {high:.2%})" if total else "-"

    out = wide_console()
    out.print(Text(f"{one.shadow}  in shadow of  {one.live}", style="bold"))
    grid = plain_table(
        "",
        "both",
        "only live",
        "only shadow",
        "lost by the candidate (95 %)",
        "other of all frames (95 %)",
    )
    rejects = (one.both_reject, one.only_live_rejects, one.only_shadow_rejects)
    rows = [("reject", rejects)] + [
        (name, (count.both, count.only_live, count.only_shadow))
        for name, count in sorted(one.classes.items())
    ]
    for name, (both, live, shadow) in rows:
        grid.add_row(
            Text(name),
            str(both),
            str(live),
            str(shadow),
            share(live, both + live),
            share(live + shadow, one.frames),
        )
    out.print(grid)
    out.print(f"{one.frames} frames, one took {one.p99_us / 1000:.1f} ms at p99 in slack time")
    if one.differing:
        listed = ", ".join(map(str, one.seqs[:_MAX_SHOWN_SEQS]))
        more = one.differing - min(len(one.seqs), _MAX_SHOWN_SEQS)
        rest = f" and {more} more (--json)" if more else ""
        out.print(Text(f"they differ in the frames {listed}{rest}"))
