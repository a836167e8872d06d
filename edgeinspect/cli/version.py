"""`edgeinspect version`: versions, plugins, and why plugins are unavailable."""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import click
from rich.text import Text

from edgeinspect import __version__, registry
from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option, print_result
from edgeinspect.cli._results.machine import PluginResult, StoreResult, VersionResult
from edgeinspect.cli._tables import Column, TextTable, print_table
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
@json_option("edgeinspect.cli._results.machine:VersionResult")
def version(as_json: bool) -> None:
    """Show versions, available plugins, and why others are unavailable."""
    print_result(collect_versions(), as_json, _show)


def collect_versions() -> VersionResult:
    """Return everything that `version` shows, without importing engine or camera libraries."""
    store = ModelStore()
    plugins = {
        section: {name: _plugin_state(kind, name) for name in registry.plugin_names(kind)}
        for section, kind in _KINDS
    }
    return VersionResult(
        edgeinspect=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        backends=plugins["backends"],
        cameras=plugins["cameras"],
        plclinks=plugins["plclinks"],
        store=StoreResult(
            root=str(store.root),
            models={name: list(store.versions(name)) for name in store.names()},
        ),
    )


def _plugin_state(kind: registry.PluginKind, name: str) -> PluginResult:
    reason = registry.missing_reason(kind, name)
    packages: dict[str, str] = {}
    if reason is None:
        for package, _extra in getattr(registry.load_plugin(kind, name), "REQUIRES", ()):
            packages[package] = _package_version(package)
    return PluginResult(available=reason is None, reason=reason, packages=packages)


_distributions_by_import = functools.cache(importlib.metadata.packages_distributions)


def _package_version(package: str) -> str:
    """Return the version of the distribution that an import name belongs to."""
    names = _distributions_by_import().get(package)
    if names:
        return importlib.metadata.version(names[0])
    # Python 3.10 knows only the distributions with a `top_level.txt`.
    for distribution in importlib.metadata.distributions():
        if any(file.parts[0] == package for file in distribution.files or ()):
            return distribution.version
    return "unknown"


def _show(result: VersionResult) -> None:
    table = TextTable(Column("", fixed=True), Column("", fixed=True), "")
    table.add_row(Text("edgeinspect", style="dim"), result.edgeinspect)
    table.add_row(Text("python", style="dim"), result.python, result.platform)
    for section, _kind in _KINDS:
        plugins: dict[str, PluginResult] = getattr(result, section)
        label = section
        for name, plugin in plugins.items():
            versions = ", ".join(f"{key} {value}" for key, value in plugin.packages.items())
            state = Text(versions or "built in") if plugin.available else Text(plugin.reason or "")
            state.stylize("green" if plugin.available else "yellow")
            table.add_row(Text(label, style="dim"), name, state)
            label = ""
    label = "models"
    for name, numbers in result.store.models.items():
        word = "version" if len(numbers) == 1 else "versions"
        table.add_row(Text(label, style="dim"), name, f"{word} {', '.join(map(str, numbers))}")
        label = ""
    if label:
        table.add_row(Text(label, style="dim"), "none")
    print_table(table)
    store = TextTable(Column("", fixed=True), Column("", is_path=True))
    store.add_row(Text(f"{'store':<11}", style="dim"), result.store.root)
    print_table(store)
