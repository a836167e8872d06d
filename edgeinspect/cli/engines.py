"""`edgeinspect engines`: the model store from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from edgeinspect.cli import _model_actions as check
from edgeinspect.cli._model_tables import (
    comparison_dict,
    plain_table,
    print_comparison,
    version_entry,
    version_row,
    wide_console,
)
from edgeinspect.cli._number_types import FiniteRange
from edgeinspect.cli._terminal import echo
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, ModelError, UsageError
from edgeinspect.storage.model_store import (
    MANIFEST_FILE,
    ModelStore,
    ModelVersions,
    default_root,
    read_manifest,
)

_FILE = click.Path(path_type=Path, dir_okay=False)
_json = click.option("--json", "as_json", is_flag=True, help="As JSON, for a program.")
_why = click.option("--why", default="", help="A reason for the history.")
_backend = click.option(
    "--backend",
    default="auto",
    show_default=True,
    help="Load it with this one; `none` looks at the files alone.",
)
_line = click.option("--line", type=_FILE, help="A line's configuration: its shadow's record.")
_record = click.option("--record", type=_FILE, help="A shadow's record.")


@click.group()
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the models; else where `edgeinspect version` says.",
)
@click.pass_context
def engines(ctx: click.Context, store: Path | None) -> None:
    """Keep the models' versions: which is live, which may become it, and the way back.

    MODEL is NAME (its live version) or NAME/VERSION. A running line takes a change at its
    next reload (`systemctl reload edgeinspect@LINE`, or SIGHUP), between two frames.
    """
    ctx.obj = ModelStore(store or default_root())


@engines.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_json
@click.pass_obj
def list_(store: ModelStore, names: tuple[str, ...], as_json: bool) -> int:
    """List versions and their states. Ends with 65 if one cannot be read."""
    grid = plain_table(
        "model",
        "state",
        "kind",
        "precision",
        "calibration",
        "made",
        "MB",
        "p50/p99 ms",
        "golden",
        "",
    )
    told: list[dict[str, Any]] = []
    for name in names or store.names():
        _check_model_name(store, name)
        shelf = store.model_versions(name)
        register = shelf.read_state()
        for version in shelf.versions():
            one = version_entry(shelf, register, version)
            told.append(one)
            grid.add_row(*version_row(one, register.stage_of(version), version in register.before))
    if as_json:
        echo(json.dumps(told, indent=2))
    else:
        wide_console().print(grid)
        echo(f"store {store.root}")
        for one in told:
            if one["problem"]:
                echo(f"{one['model']}: {one['problem']}")
    return EXIT_DATAERR if any(each["problem"] for each in told) else EXIT_OK


@engines.command()
@click.argument("model")
@_json
@click.pass_obj
def show(store: ModelStore, model: str, as_json: bool) -> None:
    """Show one version: its manifest, its state, its model's history."""
    name, version = store.parse_reference(model)
    shelf = store.model_versions(name)
    register = shelf.read_state()
    manifest = read_manifest(shelf.folder / str(version) / MANIFEST_FILE)
    facts = {"state": register.stage_of(version).value, **msgspec.to_builtins(manifest)}
    history = [msgspec.to_builtins(change) for change in register.history]
    if as_json:
        echo(json.dumps({**facts, "history": history}, indent=2, default=str))
        return
    facts_table = Table(show_header=False, box=None, pad_edge=False)
    facts_table.add_column(style="dim", no_wrap=True)
    facts_table.add_column(overflow="fold")
    for key, value in facts.items():
        if value not in (None, "", [], {}):
            facts_table.add_row(key, Text(value if isinstance(value, str) else json.dumps(value)))
    out = wide_console()
    out.print(facts_table)
    if history:
        past = plain_table("at", "who", "did", "version", "live then", "why")
        for change in reversed(register.history):
            past.add_row(
                change.at,
                Text(change.who),
                change.did,
                str(change.version),
                str(change.live),
                Text(change.why),
            )
        out.print(past)


@engines.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@_backend
@click.option(
    "--make-golden",
    "pictures",
    multiple=True,
    type=_FILE,
    metavar="PICTURE",
    help="Keep what it gives on this picture (often) as its golden frames.",
)
@click.option("--measure", is_flag=True, help="Time it here, into its manifest.")
@_json
@click.pass_obj
def verify(
    store: ModelStore,
    models: tuple[str, ...],
    backend: str,
    pictures: tuple[Path, ...],
    measure: bool,
    as_json: bool,
) -> int:
    """Verify versions (all, if none is named): files, owner, mode, outputs.

    Each is loaded and held against its golden frames. Ends with 65 if one is refused.
    """
    if (pictures or measure) and len(models) != 1:
        raise UsageError("--make-golden and --measure are for one MODEL")
    if pictures:
        check.save_golden_frames(store, models[0], backend, pictures, "")
    if measure:
        check.measure_latency(store, models[0], backend, "")
    refs = models or [f"{name}/{v}" for name in store.names() for v in store.versions(name)]
    grid = plain_table("model", "", "")
    told = []
    for ref in refs:
        ref = "{}/{}".format(*store.parse_reference(ref))
        try:
            words, good = check.verify_version(store, ref, backend), True
        except ModelError as error:
            words, good = str(error), False
        told.append({"model": ref, "good": good, "words": words})
        grid.add_row(
            ref, Text("good", "green") if good else Text("REFUSED", "bold red"), Text(words)
        )
    if as_json:
        echo(json.dumps(told, indent=2))
    else:
        wide_console().print(grid)
    return EXIT_OK if all(each["good"] for each in told) else EXIT_DATAERR


@engines.command()
@click.argument("model")
@_why
@_backend
@click.option(
    "--after-shadow",
    type=click.IntRange(1),
    metavar="N",
    help="Only with N frames judged in shadow of the live one.",
)
@click.option(
    "--at-most",
    default=0.02,
    show_default=True,
    type=FiniteRange(0, 1),
    help="Largest share of other decisions there (upper end at 95 %).",
)
@_line
@_record
@click.pass_obj
def promote(
    store: ModelStore,
    model: str,
    why: str,
    backend: str,
    after_shadow: int | None,
    at_most: float,
    line: Path | None,
    record: Path | None,
) -> None:
    """Make MODEL (NAME/VERSION) live, if it verifies. Ends with 65 if it does not."""
    if "/" not in model:
        raise UsageError("name the version that shall be live, as NAME/VERSION")
    name, version = store.parse_reference(model)
    shelf = store.model_versions(name)
    words = _verify_current_files(store, shelf, version, backend)
    if after_shadow is not None:
        paths = check.shadow_result_files(line, record)
        check.require_shadow_agreement(store, name, version, paths, after_shadow, at_most)
    before = shelf.read_state().live
    shelf.promote(version, why)
    echo(f"{name}/{version} is live; {name}/{before} was. {words}")
    echo("A running line takes it at its next reload.")


@engines.command()
@click.argument("name")
@_why
@_backend
@click.pass_obj
def rollback(store: ModelStore, name: str, why: str, backend: str) -> None:
    """Make the version of NAME live that was before."""
    _check_model_name(store, name)
    shelf = store.model_versions(name)
    before = [each for each in shelf.read_state().before if each in shelf.versions()]
    if before:  # or the shelf says why not
        check.verify_version(store, f"{name}/{before[-1]}", backend)
    register = shelf.rollback(why)
    echo(f"{name}/{register.live} is live again.")
    echo("A running line takes it at its next reload.")


@engines.command()
@click.argument("model")
@click.option("--start", is_flag=True, help="Let it judge in shadow from the next reload on.")
@click.option("--stop", is_flag=True, help="No more.")
@_why
@_line
@_record
@_json
@click.pass_obj
def shadow(
    store: ModelStore,
    model: str,
    start: bool,
    stop: bool,
    why: str,
    line: Path | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Show how MODEL judged in shadow, frame by frame beside the live one.

    NAME means its version in shadow. Only slack time is used, and nobody acts on it.
    """
    if start and stop:
        raise UsageError("give one of --start and --stop")
    name, version = _shadow_version(store, model, start)
    shelf = store.model_versions(name)
    if start:
        store.resolve(f"{name}/{version}")
        shelf.set_shadow(version, why)
        echo(f"{name}/{version} is in shadow from a line's next reload on.")
        return
    if stop:
        shelf.set_shadow(None, why)
        echo(f"{name}/{version} is a candidate again.")
        return
    found = check.shadow_results(store, name, version, check.shadow_result_files(line, record))
    if as_json:
        echo(json.dumps([comparison_dict(one) for one in found], indent=2))
        return
    if not found:
        echo(f"{name}/{version} has judged no frame in shadow here.")
    for one in found:
        print_comparison(one)


@engines.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--keep",
    default=2,
    show_default=True,
    type=click.IntRange(0),
    help="Keep so many of those that were live before.",
)
@click.option("--yes", is_flag=True, help="Remove them; without, they are only listed.")
@click.pass_obj
def gc(store: ModelStore, names: tuple[str, ...], keep: int, yes: bool) -> None:
    """Remove versions that are neither live, in shadow, lately live, nor newer than live."""
    freed = 0
    for name in names or store.names():
        _check_model_name(store, name)
        shelf = store.model_versions(name)
        for version in shelf.removable(keep):
            if yes:
                freed += shelf.remove(version)
            echo(f"{name}/{version} {'removed' if yes else 'would be removed'}")
    echo(f"{freed / 1e6:.1f} MB freed" if yes else "Nothing was removed: add --yes")


# -- words in ---------------------------------------------------------------------------


def _check_model_name(store: ModelStore, name: str) -> None:
    if "/" in name:
        raise UsageError(f"'{name}' has a version; name the model alone")
    store.parse_reference(name)


def _verify_current_files(
    store: ModelStore, shelf: ModelVersions, version: int, backend: str
) -> str:
    """As `check.verify`, of a manifest that may have been changed since it was accepted."""
    sealed = shelf.is_approved(version, shelf.read_state())
    folder = str((shelf.folder / str(version)).absolute())
    return check.verify_version(store, f"{shelf.name}/{version}" if sealed else folder, backend)


def _shadow_version(store: ModelStore, model: str, start: bool) -> tuple[str, int]:
    if "/" in model:
        return store.parse_reference(model)
    _check_model_name(store, model)
    version = store.model_versions(model).read_state().shadow
    if version is None or start:
        raise UsageError(f"name the version, as {model}/2", remedy=f"{model} has none in shadow")
    return model, version
