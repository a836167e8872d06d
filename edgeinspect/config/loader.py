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
from edgeinspect.config.validation import BAD, Collector, suggest
from edgeinspect.config.yaml_document import Node
from edgeinspect.errors import ConfigError, EdgeInspectError


@dataclass(frozen=True, slots=True)
class PartChoice:
    """A part that the configuration names, with its checked options."""

    kind: registry.Kind
    type: str
    options: Any
    """Of the part module's `Options` type."""

    @property
    def module(self) -> registry.PartModule:
        """The part's module, whose `build` makes it."""
        return registry.part(self.kind, self.type)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without a fault. Immutable."""

    config: LineConfig
    cameras: Mapping[str, PartChoice]
    """By the camera's name, in the file's order."""
    engines: Mapping[str, PartChoice]
    """`gate`, `segmenter` or both."""
    hash: str
    """First 12 digits of the SHA-256 of everything above, defaults written out."""
    where: str
    """The file's path, for messages."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read and check a configuration file. Imports no camera library and no engine.

    Args:
        path: The file.
        overrides: `key.of.a.table=VALUE`, each put in the place of what the file says
            there and checked with the rest.

    Raises:
        ConfigError: Every fault of the file, in the order of its lines.
    """
    return parse(yaml_document.read_text(Path(path)), str(path), overrides)


def parse(text: str, where: str = "configuration", overrides: Sequence[str] = ()) -> Loaded:
    """Check a configuration given as YAML text; as `load`."""
    root, faults = yaml_document.parse(text, where)
    for words in overrides:
        yaml_document.override(root, words)
    collector = Collector()
    collector.faults.extend(faults)
    config = collector.struct(root, LineConfig, "")
    cameras = _parts(collector, root, "cameras", "camera")
    engines = _parts(collector, root, "engines", "backend", ("gate", "segmenter"))
    check_line(collector, root)
    if collector.faults:
        ordered = sorted(collector.faults, key=lambda fault: fault.line or 0)
        raise ConfigError(ordered, where=where)
    assert isinstance(config, LineConfig)
    return Loaded(
        config,
        MappingProxyType(cameras),
        MappingProxyType(engines),
        _hash(config, cameras, engines),
        where,
    )


def _parts(
    collector: Collector,
    root: Node,
    section: str,
    kind: registry.Kind,
    only: tuple[str, ...] | None = None,
) -> dict[str, PartChoice]:
    """Check each part of a section against its own options."""
    assert isinstance(root.value, dict)
    table = root.value.get(section)
    chosen: dict[str, PartChoice] = {}
    if table is None or not isinstance(table.value, dict):
        return chosen
    for name, node in table.value.items():
        if only is not None and (name not in only or node.value is None):
            continue
        choice = _part(collector, node, f"{section}.{name}", kind)
        if choice is not None:
            chosen[name] = choice
    return chosen


def _part(collector: Collector, node: Node, path: str, kind: registry.Kind) -> PartChoice | None:
    if not isinstance(node.value, dict):
        return None  # reported by the walk of the whole
    existing = registry.names(kind)
    listing = ", ".join(existing) or "none"
    named = node.value.get("type")
    if named is None:
        collector.fault(f"{path}.type", f"required: one of {listing}", line=node.line)
        return None
    if not isinstance(named.value, str) or named.value not in existing:
        hint = suggest(str(named.value), existing)
        collector.fault(f"{path}.type", f"no such {kind}; there are: {listing}{hint}", named)
        return None
    try:
        module = registry.part(kind, named.value)
    except (ImportError, EdgeInspectError) as error:
        collector.fault(f"{path}.type", f"cannot be loaded: {error}", named)
        return None
    options = collector.struct(node, module.Options, path, skip=("type",))
    return None if options is BAD else PartChoice(kind, named.value, options)


def written_out(loaded: Loaded) -> str:
    """The whole configuration with every default written out; `parse` gives the same again."""
    return _canonical(loaded.config, loaded.cameras, loaded.engines).decode()


def _hash(
    config: LineConfig, cameras: dict[str, PartChoice], engines: dict[str, PartChoice]
) -> str:
    """Equal for two files that mean the same, whatever their comments, order or defaults."""
    return hashlib.sha256(_canonical(config, cameras, engines)).hexdigest()[:12]


def _canonical(
    config: LineConfig, cameras: Mapping[str, PartChoice], engines: Mapping[str, PartChoice]
) -> bytes:
    whole = msgspec.to_builtins(config)
    for section, parts in (("cameras", cameras), ("engines", engines)):
        whole[section] = {
            name: {"type": choice.type, **msgspec.to_builtins(choice.options)}
            for name, choice in parts.items()
        }
    return msgspec.json.encode(_plain(whole), order="deterministic")


def _plain(value: Any) -> Any:
    """The same with whole numbers written one way: 200 and 200.0 mean the same."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
