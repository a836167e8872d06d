"""`edgeinspect models add`: put a trained model into a store."""

from __future__ import annotations

from pathlib import Path

import click

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._model_options import REPLACES_LINEAGE_OPTION
from edgeinspect.cli._options import NEW_STORE
from edgeinspect.cli._paths import MODEL
from edgeinspect.cli._results.models import AddedModel
from edgeinspect.cli._tables import print_text


@click.command(
    cls=Command,
    examples=[
        (
            "Put a trained model into a store of the line",
            "edgeinspect models add runs/gate --store engines",
        ),
        (
            "Under another name, since the store has a gate of another product",
            "edgeinspect models add runs/gate --store engines --name castings-gate",
        ),
    ],
)
@click.argument("model", type=MODEL)
@click.option("--name", metavar="NAME", help="Its name in the store; its own by default.")
@NEW_STORE
@REPLACES_LINEAGE_OPTION
@json_option("edgeinspect.cli._results.models:AddedModel")
def add(
    model: str, name: str | None, store: Path | None, replaces_lineage: bool, as_json: bool
) -> None:
    """Put MODEL into the store, as the next version of its name.

    MODEL is a training run's folder or a folder with a manifest. The first version of a name
    is live; a further one is a candidate until `models promote`. A name stands for one product:
    a version of another kind, of other classes or trained on another data set is refused.
    """
    from edgeinspect.learning.evaluate import inherited_files, resolve_model
    from edgeinspect.learning.onnx_graphs.new_version import add_copy
    from edgeinspect.storage.model_store import ModelStore

    target = ModelStore(store)
    source, ref = resolve_model(model, target)
    spec = source.resolve(ref)
    folder = add_copy(
        spec,
        target,
        name or spec.id.name,
        files=inherited_files(spec),
        replaces_lineage=replaces_lineage,
    )
    state = target.stage_of(folder.parent.name, int(folder.name))
    outcome = AddedModel(
        model=f"{folder.parent.name}/{folder.name}", folder=str(folder), state=state.value
    )
    print_result(outcome, as_json, _show)


def _show(outcome: AddedModel) -> None:
    print_text(f"{outcome.model} is {outcome.state} in {outcome.folder}")
