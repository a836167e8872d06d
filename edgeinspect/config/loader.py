"""Loads a configuration file, or reports all of its faults."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from edgeinspect import registry
from edgeinspect.config import yaml_document
from edgeinspect.config.cross_checks import check_line
from edgeinspect.config.schema import LineConfig
from edgeinspect.config.validation import INVALID, ConfigValidator, open_document, suggest_spelling
from edgeinspect.config.yaml_document import YamlNode
from edgeinspect.domain import ENGINE_ROLES
from edgeinspect.errors import ConfigError, ConfigFault, EdgeInspectError, OverrideError


@dataclass(frozen=True, slots=True)
class PluginSelection:
    """A plugin selected in the configuration, with its validated options."""

    kind: registry.PluginKind
    type: str
    options: Any
    """An instance of the plugin's `Options`."""

    @property
    def module(self) -> registry.PluginModule:
        """The plugin's module; its `build` creates the plugin."""
        return registry.load_plugin(self.kind, self.type)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration. Immutable."""

    config: LineConfig
    cameras: Mapping[str, PluginSelection]
    """By camera name, in the order of the file."""
    engines: Mapping[str, PluginSelection]
    """By role: `gate`, `segmenter`, `unknown`."""
    hash: str
    """First 12 digits of the SHA-256 of the above with all defaults."""
    where: str
    """The file's path, for messages."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and validate a configuration file. Imports no camera library and no engine.

    Args:
        path: The file.
        overrides: `key.of.a.table=VALUE`, each replacing the value in the file and validated
            with the rest.

    Raises:
        ConfigError: All faults of the file, in the order of lines.
        OverrideError: Only `overrides` have faults.
    """
    return parse_config(yaml_document.read_text(Path(path)), str(path), overrides)


def parse_config(
    text: str, where: str = "configuration", overrides: Sequence[str] = ()
) -> LoadedConfig:
    """Validate a configuration given as YAML text; see `load_config`."""
    try:
        return _parse_config(text, where, overrides)
    except OverrideError:
        raise
    except ConfigError as error:
        if overrides:
            _blame_overrides(error, text, where)
        raise


def _blame_overrides(error: ConfigError, text: str, where: str) -> None:
    """Raise instead of an error the one that tells faults of `overrides` from those of the file."""
    own: tuple[ConfigFault, ...] = ()
    try:
        _parse_config(text, where, ())
    except ConfigError as own_error:
        own = own_error.faults
    added = [fault for fault in error.faults if fault not in own]
    if len(added) == len(error.faults):
        raise OverrideError(added, where=yaml_document.OPTION) from None
    if added:
        named = [
            replace(fault, path=f"{yaml_document.OPTION} {fault.path}") if fault in added else fault
            for fault in error.faults
        ]
        raise ConfigError(named, where=where) from None


def _parse_config(text: str, where: str, overrides: Sequence[str]) -> LoadedConfig:
    root, validator = open_document(text, where)
    for assignment in overrides:
        yaml_document.set_value(root, assignment)
    config = validator.validate_struct(root, LineConfig, "")
    cameras = _select_plugins(validator, root, "cameras", "camera")
    engines = _select_plugins(validator, root, "engines", "backend", ENGINE_ROLES)
    check_line(validator, root)
    validator.raise_faults(where)
    assert isinstance(config, LineConfig)
    return LoadedConfig(
        config,
        MappingProxyType(cameras),
        MappingProxyType(engines),
        _hash(config, cameras, engines),
        where,
    )


def _select_plugins(
    validator: ConfigValidator,
    root: YamlNode,
    section: str,
    kind: registry.PluginKind,
    only: tuple[str, ...] | None = None,
) -> dict[str, PluginSelection]:
    """Validate each plugin of a section against its own options."""
    assert isinstance(root.value, dict)
    table = root.value.get(section)
    selected: dict[str, PluginSelection] = {}
    if table is None or not isinstance(table.value, dict):
        return selected
    for name, node in table.value.items():
        if only is not None and (name not in only or node.value is None):
            continue
        selection = _select_plugin(validator, node, f"{section}.{name}", kind)
        if selection is not None:
            selected[name] = selection
    return selected


def _select_plugin(
    validator: ConfigValidator, node: YamlNode, path: str, kind: registry.PluginKind
) -> PluginSelection | None:
    if not isinstance(node.value, dict):
        return None  # reported by the validation of the whole file
    existing = registry.plugin_names(kind)
    listing = ", ".join(existing) or "none"
    named = node.value.get("type")
    if named is None:
        validator.add_fault(f"{path}.type", f"required: one of {listing}", line=node.line)
        return None
    if not isinstance(named.value, str) or named.value not in existing:
        hint = suggest_spelling(str(named.value), existing)
        validator.add_fault(f"{path}.type", f"no such {kind}; there are: {listing}{hint}", named)
        return None
    try:
        module = registry.load_plugin(kind, named.value)
    except (ImportError, EdgeInspectError) as error:
        validator.add_fault(f"{path}.type", f"cannot be loaded: {error}", named)
        return None
    options = validator.validate_struct(node, module.Options, path, skip=("type",))
    return None if options is INVALID else PluginSelection(kind, named.value, options)


def dump_canonical(loaded: LoadedConfig) -> str:
    """Return the configuration with all defaults as text; `parse_config` accepts it."""
    return _canonical(loaded.config, loaded.cameras, loaded.engines).decode()


def _hash(
    config: LineConfig, cameras: dict[str, PluginSelection], engines: dict[str, PluginSelection]
) -> str:
    """Return the same hash for equivalent files, regardless of comments, order and defaults."""
    return hashlib.sha256(_canonical(config, cameras, engines)).hexdigest()[:12]


def _canonical(
    config: LineConfig,
    cameras: Mapping[str, PluginSelection],
    engines: Mapping[str, PluginSelection],
) -> bytes:
    whole = msgspec.to_builtins(config)
    for section, selections in (("cameras", cameras), ("engines", engines)):
        whole[section] = {
            name: {"type": selection.type, **msgspec.to_builtins(selection.options)}
            for name, selection in selections.items()
        }
    _drop_later_keys(whole["decide"])
    return msgspec.json.encode(_to_plain(whole), order="deterministic")


def _drop_later_keys(decide: dict[str, Any]) -> None:
    """Remove keys that a file without them did not have when its hash was first published."""
    if decide["gate"] is not None and not decide["gate"]["classes"]:
        del decide["gate"]["classes"]
    if decide["unknown"] is None:
        del decide["unknown"]


def _to_plain(value: Any) -> Any:
    """Convert integral floats to integers, so that 200 and 200.0 hash alike."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
