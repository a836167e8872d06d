"""`edgeinspect models promote`, `rollback`, `shadow` and `gc`: which version does what."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli import _model_actions as actions
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_json, print_result
from edgeinspect.cli._model_options import (
    BACKEND,
    MODEL_STORE,
    REPLACES_LINEAGE_OPTION,
    WHY,
    check_model_name,
)
from edgeinspect.cli._model_tables import print_comparison, shadow_pair
from edgeinspect.cli._paths import LINE_FILE, SHADOW_RESULTS, STORED_MODEL
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.models import ModelRemoval, ShadowResults
from edgeinspect.cli._tables import print_text
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import UsageError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    REPLACES_LINEAGE,
    ModelStore,
    ModelVersions,
    check_lineage,
    read_manifest,
)

_LINE = click.option(
    "--line", metavar="FILE", type=LINE_FILE, help="The line whose shadow results are used."
)
_RESULTS = click.option(
    "--results",
    metavar="RESULTS_FILE",
    type=SHADOW_RESULTS,
    help="A file of shadow results, instead of those on this PC.",
)


@click.command(
    cls=Command,
    examples=[
        (
            "Make a version live, after verifying it",
            'edgeinspect models promote strip-gate/2 --why "new coil supplier"',
        ),
        (
            "Only if it agreed with the live one in shadow",
            "edgeinspect models promote strip-gate/2 --min-shadow-frames 10000 --line line.yaml",
        ),
    ],
    renamed={"--record": "--results RESULTS_FILE"},
)
@click.argument("model", type=STORED_MODEL)
@WHY
@BACKEND
@click.option(
    "--min-shadow-frames",
    type=IntRange(1),
    metavar="N",
    help="Require N frames compared with the live version in shadow.",
)
@click.option(
    "--max-disagreement",
    metavar="RATIO",
    default=0.02,
    show_default=True,
    type=FiniteRange(0, 1),
    help="Largest ratio of different decisions there (upper 95 % limit).",
)
@_LINE
@_RESULTS
@REPLACES_LINEAGE_OPTION
@MODEL_STORE
def promote(
    store: ModelStore,
    model: str,
    why: str,
    backend: str,
    min_shadow_frames: int | None,
    max_disagreement: float,
    line: Path | None,
    results: Path | None,
    replaces_lineage: bool,
) -> None:
    """Make MODEL (NAME/VERSION) live, if it verifies. Ends with 65 if it does not."""
    if "/" not in model:
        raise UsageError("name the version to promote, as NAME/VERSION")
    name, version = store.parse_reference(model)
    versions = store.model_versions(name)
    summary = _verify_current_files(store, versions, version, backend)
    if not replaces_lineage:
        manifest = read_manifest(versions.folder / str(version) / MANIFEST_FILE)
        check_lineage(
            versions,
            manifest,
            remedy=f"Add it under another --name with `edgeinspect models add`, or give "
            f"{REPLACES_LINEAGE} if the name is to change its meaning",
        )
    if min_shadow_frames is not None:
        paths = actions.shadow_result_files(line, results)
        actions.require_shadow_agreement(
            store, name, version, paths, min_shadow_frames, max_disagreement
        )
    previous = versions.read_state().live
    versions.promote(version, why)
    echo(f"{name}/{version} is live; {name}/{previous} was. {summary}")
    echo("A running line takes it at its next reload.")


def _verify_current_files(
    store: ModelStore, versions: ModelVersions, version: int, backend: str
) -> str:
    """Verify a version whose manifest may have changed since it was approved."""
    is_approved = versions.is_approved(version, versions.read_state())
    folder = str((versions.folder / str(version)).absolute())
    return actions.verify_version(
        store, f"{versions.name}/{version}" if is_approved else folder, backend
    )


@click.command(
    cls=Command,
    examples=[
        ("Return to the version before", 'edgeinspect models rollback strip-gate --why "overkill"')
    ],
)
@click.argument("name", type=STORED_MODEL)
@WHY
@BACKEND
@MODEL_STORE
def rollback(store: ModelStore, name: str, why: str, backend: str) -> None:
    """Make the previously live version of NAME live again."""
    check_model_name(store, name)
    versions = store.model_versions(name)
    previous = [each for each in versions.read_state().before if each in versions.versions()]
    if previous:  # without one, rollback raises
        actions.verify_version(store, f"{name}/{previous[-1]}", backend)
    state = versions.rollback(why)
    echo(f"{name}/{state.live} is live again.")
    echo("A running line takes it at its next reload.")


@click.command(
    cls=Command,
    examples=[
        (
            "Run a candidate beside the live version",
            "edgeinspect models shadow strip-gate/2 --start",
        ),
        ("See how often they differ", "edgeinspect models shadow strip-gate --line line.yaml"),
    ],
    renamed={"--record": "--results RESULTS_FILE"},
)
@click.argument("model", type=STORED_MODEL)
@click.option("--start", is_flag=True, help="Run it in shadow from the next reload on.")
@click.option("--stop", is_flag=True, help="Stop it from the next reload on.")
@WHY
@_LINE
@_RESULTS
@json_option("edgeinspect.cli._results.models:ShadowResults")
@MODEL_STORE
def shadow(
    store: ModelStore,
    model: str,
    start: bool,
    stop: bool,
    why: str,
    line: Path | None,
    results: Path | None,
    as_json: bool,
) -> None:
    """Compare MODEL in shadow with the live version, frame by frame.

    NAME means its version in shadow. It runs in idle time only and changes no verdict.
    """
    if start and stop:
        raise UsageError("give one of --start and --stop")
    name, version = _shadow_version(store, model, start)
    versions = store.model_versions(name)
    if start:
        store.resolve(f"{name}/{version}")
        versions.set_shadow(version, why)
        echo(f"{name}/{version} is in shadow from a line's next reload on.")
        return
    if stop:
        versions.set_shadow(None, why)
        echo(f"{name}/{version} is a candidate again.")
        return
    comparisons = actions.shadow_results(
        store, name, version, actions.shadow_result_files(line, results)
    )
    if as_json:
        pairs = [shadow_pair(each) for each in comparisons]
        print_json(ShadowResults(model=f"{name}/{version}", comparisons=pairs))
        return
    if not comparisons:
        print_text(f"{name}/{version} has no results in shadow here.")
    for entry in comparisons:
        print_comparison(entry)


def _shadow_version(store: ModelStore, model: str, start: bool) -> tuple[str, int]:
    if "/" in model:
        return store.parse_reference(model)
    check_model_name(store, model)
    version = store.model_versions(model).read_state().shadow
    if version is None or start:
        raise UsageError(f"name the version, as {model}/2", remedy=f"{model} has none in shadow")
    return model, version


@click.command(
    cls=Command,
    examples=[
        ("List what can be removed", "edgeinspect models gc"),
        ("Remove it", "edgeinspect models gc --yes"),
    ],
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=STORED_MODEL)
@click.option(
    "--keep",
    metavar="N",
    default=2,
    show_default=True,
    type=IntRange(0),
    help="Number of previously live versions to keep.",
)
@click.option("--yes", is_flag=True, help="Remove them; without this they are only listed.")
@json_option("edgeinspect.cli._results.models:ModelRemoval")
@MODEL_STORE
def gc(store: ModelStore, names: tuple[str, ...], keep: int, yes: bool, as_json: bool) -> None:
    """Remove old versions.

    Kept are those that are live, in shadow, recently live, or newer than the live one.
    """
    result = ModelRemoval(removed=yes, versions=[], freed_bytes=0)
    for name in names or store.names():
        check_model_name(store, name)
        versions = store.model_versions(name)
        for version in versions.removable(keep):
            if yes:
                result.freed_bytes += versions.remove(version)
            result.versions.append(f"{name}/{version}")
    print_result(result, as_json, _show_removal)


def _show_removal(result: ModelRemoval) -> None:
    for model in result.versions:
        print_text(f"{model} {'removed' if result.removed else 'would be removed'}")
    if not result.versions:
        print_text("No version is superfluous.")
    elif result.removed:
        print_text(f"{result.freed_bytes / 1e6:.1f} MB freed")
    else:
        print_text("Nothing was removed: add --yes")
