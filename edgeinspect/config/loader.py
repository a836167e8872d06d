"""From a file to a configuration, or to the list of everything that is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from edgeinspect import registry
from edgeinspect.config import yaml_document
from edgeinspect.config.cross_checks import check_line
from edgeinspect.config.schema import LineConfig
from edgeinspect.config.validation import INVALID, Validator, suggest_spelling
from edgeinspect.config.yaml_document import Node
from edgeinspect.errors import ConfigError, EdgeInspectError


@dataclass(frozen=True, slots=True)
class PluginSelection:
    """A part that the configuration names, with its checked options."""

    kind: registry.PluginKind
    type: str
    options: Any
    """Of the part module's `Options` type."""

    @property
    def module(self) -> registry.PluginModule:
        """The part's module, whose `build` makes it."""
        return registry.load_plugin(self.kind, self.type)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration without a fault. Immutable."""

    config: LineConfig
    cameras: Mapping[str, PluginSelection]
    """By the camera's name, in the file's order."""
    engines: Mapping[str, PluginSelection]
    """`gate`, `segmenter` or both."""
    hash: str
    """First 12 digits of the SHA-256 of everything above, defaults written out."""
    where: str
    """The file's path, for messages."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and check a configuration file. Imports no camera library and no engine.

    Args:
        path: The file.
        overrides: `key.of.a.table=VALUE`, each put in the place of what the file says
            there and checked with the rest.

    Raises:
        ConfigError: Every fault of the file, in the order of its lines.
    """
    return parse_config(yaml_document.read_text(Path(path)), str(path), overrides)


def parse_config(
    text: str, where: str = "configuration", overrides: Sequence[str] = ()
) -> LoadedConfig:
    """Check a configuration given as YAML text; as `load`."""
    root, faults = yaml_document.parse_yaml(text, where)
    for words in overrides:
        yaml_document.set_value(root, words)
    collector = Validator()
    collector.faults.extend(faults)
    config = collector.validate_struct(root, LineConfig, "")
    cameras = _select_plugins(collector, root, "cameras", "camera")
    engines = _select_plugins(collector, root, "engines", "backend", ("gate", "segmenter"))
    check_line(collector, root)
    if collector.faults:
        ordered = sorted(collector.faults, key=lambda fault: fault.line or 0)
        raise ConfigError(ordered, where=where)
    assert isinstance(config, LineConfig)
    return LoadedConfig(
        config,
        MappingProxyType(cameras),
        MappingProxyType(engines),
        _hash(config, cameras, engines),
        where,
    )


def _select_plugins(
    collector: Validator,
    root: Node,
    section: str,
    kind: registry.PluginKind,
    only: tuple[str, ...] | None = None,
) -> dict[str, PluginSelection]:
    """Check each part of a section against its own options."""
    assert isinstance(root.value, dict)
    table = root.value.get(section)
    chosen: dict[str, PluginSelection] = {}
    if table is None or not isinstance(table.value, dict):
        return chosen
    for name, node in table.value.items():
        if only is not None and (name not in only or node.value is None):
            continue
        choice = _select_plugin(collector, node, f"{section}.{name}", kind)
        if choice is not None:
            chosen[name] = choice
    return chosen


def _select_plugin(
    collector: Validator, node: Node, path: str, kind: registry.PluginKind
) -> PluginSelection | None:
    if not isinstance(node.value, dict):
        return None  # reported by the walk of the whole
    existing = registry.plugin_names(kind)
    listing = ", ".join(existing) or "none"
    named = node.value.get("type")
    if named is None:
        collector.add_fault(f"{path}.type", f"required: one of {listing}", line=node.line)
        return None
    if not isinstance(named.value, str) or named.value not in existing:
        hint = suggest_spelling(str(named.value), existing)
        collector.add_fault(f"{path}.type", f"no such {kind}; there are: {listing}{hint}", named)
        return None
    try:
        module = registry.load_plugin(kind, named.value)
    except (ImportError, EdgeInspectError) as error:
        collector.add_fault(f"{path}.type", f"cannot be loaded: {error}", named)
        return None
    options = collector.validate_struct(node, module.Options, path, skip=("type",))
    return None if options is INVALID else PluginSelection(kind, named.value, options)


def dump_canonical(loaded: LoadedConfig) -> str:
    """The whole configuration with every default written out; `parse` gives the same again."""
    return _canonical(loaded.config, loaded.cameras, loaded.engines).decode()


def _hash(
    config: LineConfig, cameras: dict[str, PluginSelection], engines: dict[str, PluginSelection]
) -> str:
    """Equal for two files that mean the same, whatever their comments, order or defaults."""
    return hashlib.sha256(_canonical(config, cameras, engines)).hexdigest()[:12]


def _canonical(
    config: LineConfig,
    cameras: Mapping[str, PluginSelection],
    engines: Mapping[str, PluginSelection],
) -> bytes:
    whole = msgspec.to_builtins(config)
    for section, parts in (("cameras", cameras), ("engines", engines)):
        whole[section] = {
            name: {"type": choice.type, **msgspec.to_builtins(choice.options)}
            for name, choice in parts.items()
        }
    return msgspec.json.encode(_to_plain(whole), order="deterministic")


def _to_plain(value: Any) -> Any:
    """The same with whole numbers written one way: 200 and 200.0 mean the same."""
    if isinstance(value, dict):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
