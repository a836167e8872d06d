"""`edgeinspect version`: versions, plugins, and why plugins are unavailable."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from edgeinspect import __version__, registry
from edgeinspect.cli._command import Command
from edgeinspect.cli._terminal import Console, echo
from edgeinspect.storage.model_store import ModelStore

_KINDS: tuple[tuple[str, registry.PluginKind], ...] = (
    ("backends", "backend"),
    ("cameras", "camera"),
    ("plclinks", "plclink"),
)


@click.command(
    cls=Command,
    examples=[
        ("Show what is installed", "edgeinspect version"),
        ("Attach it to a report", "edgeinspect version --json"),
    ],
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a program or a report.")
def version(as_json: bool) -> None:
    """Show versions, available plugins, and why others are unavailable."""
    facts = collect_versions()
    if as_json:
        echo(json.dumps(facts, indent=2))
    else:
        Console().print(_table(facts))


def collect_versions() -> dict[str, Any]:
    """Return everything that `version` shows, without importing engine or camera libraries."""
    store = ModelStore()
    facts: dict[str, Any] = {
        "edgeinspect": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for section, kind in _KINDS:
        facts[section] = {name: _plugin_state(kind, name) for name in registry.plugin_names(kind)}
    facts["store"] = {
        "root": str(store.root),
        "models": {name: list(store.versions(name)) for name in store.names()},
    }
    return facts


def _plugin_state(kind: registry.PluginKind, name: str) -> dict[str, Any]:
    reason = registry.missing_reason(kind, name)
    packages: dict[str, str] = {}
    if reason is None:
        for package, _extra in getattr(registry.load_plugin(kind, name), "REQUIRES", ()):
            try:
                packages[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:  # import and project name differ
                packages[package] = "unknown"
    return {"available": reason is None, "reason": reason, "packages": packages}


def _table(facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("edgeinspect", facts["edgeinspect"])
    table.add_row("python", facts["python"], facts["platform"])
    for section, _kind in _KINDS:
        label = section
        for name, part in facts[section].items():
            versions = ", ".join(f"{key} {value}" for key, value in part["packages"].items())
            state = Text(versions or "built in") if part["available"] else Text(part["reason"])
            state.stylize("green" if part["available"] else "yellow")
            table.add_row(label, name, state)
            label = ""
    label = "models"
    for name, versions in facts["store"]["models"].items():
        listing = ", ".join(map(str, versions))
        table.add_row(label, name, f"version {listing}")
        label = ""
    if label:
        table.add_row(label, "none", "")
    table.add_row("store", Text(facts["store"]["root"]))
    return table
