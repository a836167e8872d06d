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
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._model_add import add
from edgeinspect.cli._model_build import build
from edgeinspect.cli._model_import import import_
from edgeinspect.cli._model_options import BACKEND, MODEL_STORE, check_model_name
from edgeinspect.cli._model_stages import gc, promote, rollback, shadow
from edgeinspect.cli._model_tables import show_models, version_entry
from edgeinspect.cli._paths import IMAGES, STORED_MODEL
from edgeinspect.cli._results.models import (
    ModelChange,
    ModelDetails,
    ModelEntry,
    ModelList,
    ModelVerification,
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
from edgeinspect.domain import KINDS_ONLY, NS_PER_S, Decides
from edgeinspect.errors import EXIT_DATAERR, EXIT_OK, ModelError, UsageError
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest
from edgeinspect.system import format_local


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
    """Manage models: add, import, build, verify, promote, roll back.

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
@MODEL_STORE
def list_(store: ModelStore, names: tuple[str, ...], as_json: bool) -> int:
    """List versions and their states. Ends with 65 if one cannot be read."""
    entries: list[ModelEntry] = []
    for name in names or store.names():
        check_model_name(store, name)
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
@MODEL_STORE
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
    if result.manifest["decides"] == Decides.KINDS.value:
        print_text(Text(f"note: {KINDS_ONLY}", style="yellow"))
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
@BACKEND
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
@MODEL_STORE
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


for _command in (promote, rollback, shadow, gc, add, import_, build):
    models.add_command(_command)
