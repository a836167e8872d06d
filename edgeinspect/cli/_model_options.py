"""Options that the commands of `edgeinspect models` share."""

from __future__ import annotations

import click

from edgeinspect.cli._options import store_option
from edgeinspect.errors import UsageError
from edgeinspect.storage.model_store import REPLACES_LINEAGE, ModelStore

MODEL_STORE = store_option(lambda _ctx, _param, folder: ModelStore(folder))
WHY = click.option("--why", metavar="TEXT", default="", help="Reason, for the history.")
BACKEND = click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Backend to load it with; `none` checks only the files.",
)
REPLACES_LINEAGE_OPTION = click.option(
    REPLACES_LINEAGE,
    "replaces_lineage",
    is_flag=True,
    help="Accept another kind, other classes or another data set than the live version's.",
)


def check_model_name(store: ModelStore, name: str) -> None:
    """Check that `name` is a model of the store.

    Raises:
        UsageError: It has a version.
        ModelError: The store has no such model.
    """
    if "/" in name:
        raise UsageError(f"'{name}' has a version; name the model alone")
    store.parse_reference(name)
