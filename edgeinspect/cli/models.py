"""`edgeinspect models`: the model store: versions, verification, promotion, import, build."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
import msgspec
from rich.text import Text

from edgeinspect.cli import _model_actions as actions
from edgeinspect.cli._command import Group
from edgeinspect.cli._json_output import json_option, print_json, print_result
from edgeinspect.cli._model_build import build
from edgeinspect.cli._model_import import import_
from edgeinspect.cli._model_tables import (
    print_comparison,
    shadow_pair,
    show_models,
    version_entry,
)
from edgeinspect.cli._paths import IMAGES, LINE_FILE, SHADOW_RESULTS, STORE_FOLDER, STORED_MODEL
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._results.models import (
    ModelChange,
    ModelDetails,
    ModelEntry,
    ModelList,
    ModelRemoval,
    ModelVerification,
    ShadowResults,
    VerifiedModel,
)
from edgeinspect.cli._tables import (
    Column,
    TextTable,
    number,
    print_facts,
    print_table,
    print_text,
)
from edgeinspect.cli._terminal import echo
from edgeinspect.domain import NS_PER_S
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, ModelError, UsageError
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, ModelVersions, read_manifest
from edgeinspect.system import format_local

_STORE = click.option(
    "--store",
    metavar="FOLDER",
    type=STORE_FOLDER,
    callback=lambda _ctx, _param, folder: ModelStore(folder),
    help="Folder of the models; by default $EDGEINSPECT_STORE, or the one that "
    "`edgeinspect version` names.",
)
_WHY = click.option("--why", metavar="TEXT", default="", help="Reason, for the history.")
_BACKEND = click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Backend to load it with; `none` checks only the files.",
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


@click.group(
    cls=Group,
    examples=[
        ("List the models of this PC", "edgeinspect models list"),
        (
            "Make a version live, after verifying it",
            'edgeinspect models promote strip-gate/2 --why "new coil supplier"',
        ),
    ],
)
def models() -> None:
    """Manage models: import, build, verify, promote, roll back.

    MODEL is NAME (its live version) or NAME/VERSION. A running line takes a change at its
    next reload (`systemctl reload edgeinspect@LINE`, or SIGHUP), between two frames.
    """


@models.command(
    "list",
    examples=[
        ("List all versions and their states", "edgeinspect models list"),
        ("Those of one model, for a program", "edgeinspect models list strip-gate --json"),
    ],
)
@click.argument("names", nargs=-1, metavar="[NAME]...", type=STORED_MODEL)
@json_option("edgeinspect.cli._results.models:ModelList")
@_STORE
def list_(store: ModelStore, names: tuple[str, ...], as_json: bool) -> int:
    """List versions and their states. Ends with 65 if one cannot be read."""
    entries: list[ModelEntry] = []
    for name in names or store.names():
        _check_model_name(store, name)
        versions = store.model_versions(name)
        state = versions.read_state()
        entries += [version_entry(versions, state, version) for version in versions.versions()]
    print_result(ModelList(store=str(store.root), models=entries), as_json, show_models)
    return EXIT_DATAERR if any(each.problem for each in entries) else EXIT_OK


@models.command(
    examples=[("Show a version and its history", "edgeinspect models show strip-gate/1")]
)
@click.argument("model", type=STORED_MODEL)
@json_option("edgeinspect.cli._results.models:ModelDetails")
@_STORE
def show(store: ModelStore, model: str, as_json: bool) -> None:
    """Show one version: its manifest, its state, its model's history."""
    name, version = store.parse_reference(model)
    versions = store.model_versions(name)
    state = versions.read_state()
    folder = versions.folder / str(version)
    result = ModelDetails(
        model=f"{name}/{version}",
        folder=str(folder.absolute()),
        state=state.stage_of(version).value,
        manifest=msgspec.to_builtins(read_manifest(folder / MANIFEST_FILE)),
        history=[ModelChange(**msgspec.to_builtins(change)) for change in state.history],
    )
    print_result(result, as_json, _show_details)


def _show_details(result: ModelDetails) -> None:
    facts = {"model": result.model, "state": result.state, **result.manifest}
    print_facts(
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in facts.items()
        if value not in (None, "", [], {})
    )
    if not result.history:
        return
    table = TextTable(
        Column("at", fixed=True), "who", "did", number("version"), number("live then"), "why"
    )
    for change in reversed(result.history):
        table.add_row(
            format_local(round(datetime.fromisoformat(change.at).timestamp()) * NS_PER_S),
            change.who,
            change.did,
            str(change.version),
            str(change.live),
            change.why,
        )
    print_text("")
    print_table(table)


@models.command(
    examples=[
        ("Verify every version", "edgeinspect models verify"),
        ("Verify the files of one alone", "edgeinspect models verify strip-gate/1 --backend none"),
    ],
)
@click.argument("models", nargs=-1, metavar="[MODEL]...", type=STORED_MODEL)
@_BACKEND
@click.option(
    "--make-golden",
    "image_paths",
    multiple=True,
    type=IMAGES,
    metavar="IMAGE",
    help="Save its outputs on this image as golden frames. Repeatable.",
)
@click.option(
    "--measure", is_flag=True, help="Measure its latency here and write it into its manifest."
)
@json_option("edgeinspect.cli._results.models:ModelVerification")
@_STORE
def verify(
    store: ModelStore,
    models: tuple[str, ...],
    backend: str,
    image_paths: tuple[Path, ...],
    measure: bool,
    as_json: bool,
) -> int:
    """Verify versions: files, owner, mode, outputs.

    All of them, if none is named. Each is loaded and compared with its golden frames. Ends
    with 65 if one is rejected.
    """
    if (image_paths or measure) and len(models) != 1:
        raise UsageError("--make-golden and --measure are for one MODEL")
    if image_paths:
        actions.save_golden_frames(store, models[0], backend, image_paths, "")
    if measure:
        actions.measure_latency(store, models[0], backend, "")
    refs = models or [f"{name}/{v}" for name in store.names() for v in store.versions(name)]
    verified = []
    for ref in refs:
        ref = "{}/{}".format(*store.parse_reference(ref))
        try:
            summary, is_valid = actions.verify_version(store, ref, backend), True
        except ModelError as error:
            summary, is_valid = str(error), False
        verified.append(VerifiedModel(model=ref, passed=is_valid, found=summary))
    result = ModelVerification(passed=all(each.passed for each in verified), models=verified)
    print_result(result, as_json, _show_verification)
    return EXIT_OK if result.passed else EXIT_DATAERR


def _show_verification(result: ModelVerification) -> None:
    table = TextTable(Column("model", fixed=True), Column("", fixed=True), "")
    for each in result.models:
        word = Text("good", "green") if each.passed else Text("REFUSED", style="bold red")
        table.add_row(each.model, word, each.found)
    print_table(table, empty="the store has no models")


@models.command(
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
@_WHY
@_BACKEND
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
@_STORE
def promote(
    store: ModelStore,
    model: str,
    why: str,
    backend: str,
    min_shadow_frames: int | None,
    max_disagreement: float,
    line: Path | None,
    results: Path | None,
) -> None:
    """Make MODEL (NAME/VERSION) live, if it verifies. Ends with 65 if it does not."""
    if "/" not in model:
        raise UsageError("name the version to promote, as NAME/VERSION")
    name, version = store.parse_reference(model)
    versions = store.model_versions(name)
    summary = _verify_current_files(store, versions, version, backend)
    if min_shadow_frames is not None:
        paths = actions.shadow_result_files(line, results)
        actions.require_shadow_agreement(
            store, name, version, paths, min_shadow_frames, max_disagreement
        )
    previous = versions.read_state().live
    versions.promote(version, why)
    echo(f"{name}/{version} is live; {name}/{previous} was. {summary}")
    echo("A running line takes it at its next reload.")


@models.command(
    examples=[
        ("Return to the version before", 'edgeinspect models rollback strip-gate --why "overkill"')
    ],
)
@click.argument("name", type=STORED_MODEL)
@_WHY
@_BACKEND
@_STORE
def rollback(store: ModelStore, name: str, why: str, backend: str) -> None:
    """Make the previously live version of NAME live again."""
    _check_model_name(store, name)
    versions = store.model_versions(name)
    previous = [each for each in versions.read_state().before if each in versions.versions()]
    if previous:  # without one, rollback raises
        actions.verify_version(store, f"{name}/{previous[-1]}", backend)
    state = versions.rollback(why)
    echo(f"{name}/{state.live} is live again.")
    echo("A running line takes it at its next reload.")


@models.command(
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
@_WHY
@_LINE
@_RESULTS
@json_option("edgeinspect.cli._results.models:ShadowResults")
@_STORE
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


@models.command(
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
@_STORE
def gc(store: ModelStore, names: tuple[str, ...], keep: int, yes: bool, as_json: bool) -> None:
    """Remove old versions.

    Kept are those that are live, in shadow, recently live, or newer than the live one.
    """
    result = ModelRemoval(removed=yes, versions=[], freed_bytes=0)
    for name in names or store.names():
        _check_model_name(store, name)
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


def _check_model_name(store: ModelStore, name: str) -> None:
    if "/" in name:
        raise UsageError(f"'{name}' has a version; name the model alone")
    store.parse_reference(name)


def _verify_current_files(
    store: ModelStore, versions: ModelVersions, version: int, backend: str
) -> str:
    """Verify a version whose manifest may have changed since it was approved."""
    is_approved = versions.is_approved(version, versions.read_state())
    folder = str((versions.folder / str(version)).absolute())
    return actions.verify_version(
        store, f"{versions.name}/{version}" if is_approved else folder, backend
    )


def _shadow_version(store: ModelStore, model: str, start: bool) -> tuple[str, int]:
    if "/" in model:
        return store.parse_reference(model)
    _check_model_name(store, model)
    version = store.model_versions(model).read_state().shadow
    if version is None or start:
        raise UsageError(f"name the version, as {model}/2", remedy=f"{model} has none in shadow")
    return model, version


models.add_command(import_)
models.add_command(build)
