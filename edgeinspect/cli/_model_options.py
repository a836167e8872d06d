"""Options that the commands of `edgeinspect models` share."""

from __future__ import annotations

import click

from edgeinspect.cli._options import store_option
from edgeinspect.errors import UsageError
from edgeinspect.storage.model_store import ModelStore

MODEL_STORE = store_option(lambda _ctx, _param, folder: ModelStore(folder))
WHY = click.option("--why", metavar="TEXT", default="", help="Reason, for the history.")
BACKEND = click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Backend to load it with; `none` checks only the files.",
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
