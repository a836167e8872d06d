"""Parses untrusted YAML text into a tree with line numbers.

Built from the parser's events instead of `yaml.safe_load`, for four reasons: each value has its
line, duplicate keys are detected, the work is bounded even when aliases multiply, and words
that YAML 1.1 converts silently (`on`, `012`, `1:30`) are either kept as text or reported.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.errors import ConfigError, ConfigFault, OverrideError
from edgeinspect.system import open_regular

OPTION = "--set"
"""Option of the command line with which values of a file are replaced."""
MAX_BYTES = 1 << 20
"""Maximum size of a file."""
MAX_NODES = 20_000
"""Maximum number of values in a file, aliases expanded."""
MAX_DEPTH = 32

Scalar = str | int | float | bool | None

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)$|0x[0-9a-fA-F]+$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_SPECIAL = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_STR_TAG = "tag:yaml.org,2002:str"


@dataclass(slots=True)
class YamlNode:
    """One value of the file. `value` is a scalar, a list of nodes or a dict of them."""

    value: Scalar | list[YamlNode] | dict[str, YamlNode]
    line: int
    """Line number from 1; 0 if it is not from the file."""
    raw: str = ""
    """The source text of a scalar."""
    size: int = 1
    """Nodes in this value, aliases expanded."""
    key_lines: dict[str, int] = field(default_factory=dict)
    """For a dict: the line of each key."""

    def to_builtins(self) -> Any:
        """Return the value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.to_builtins() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.to_builtins() for node in self.value]
        return self.value


def read_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigError: It is missing, not a regular file, unreadable, larger than `MAX_BYTES`,
            or not UTF-8.
    """
    where = str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise _config_error(f"is {kind}; name a YAML file", where)
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _config_error(f"cannot be read: {error.strerror or error}", where) from error
    except ValueError as error:  # a NUL in the path
        raise _config_error(f"is not a path: {error}", repr(where)) from error
    if len(data) > MAX_BYTES:
        raise _config_error(f"is larger than {MAX_BYTES} bytes: not a configuration", where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"is not text in UTF-8 (byte {error.start})"
        raise ConfigError([ConfigFault("file", problem, line=line)], where=where) from error


def set_value(root: YamlNode, assignment: str) -> None:
    """Apply an assignment `key.of.a.table=VALUE`, where VALUE is YAML.

    Raises:
        OverrideError: It does not have that form, or the path leads through a value that is not
            a table.
    """
    keys, equals, text = assignment.partition("=")
    names = keys.split(".")
    if not equals or not all(names):
        problem = "must be KEY=VALUE, as budget_ms=200 or cameras.top.rate_hz=25"
        raise _override_error(shorten(assignment), problem)
    try:
        value = parse_yaml(f"value: {text}\n", OPTION)[0]
    except ConfigError as error:
        faults = [ConfigFault(keys, fault.problem, fault.value) for fault in error.faults]
        raise OverrideError(faults, where=OPTION) from error
    assert isinstance(value.value, dict)
    node = root
    for name in names[:-1]:
        if not isinstance(node.value, dict):
            break
        node.key_lines.setdefault(name, 0)
        node = node.value.setdefault(name, YamlNode({}, 0))
    if not isinstance(node.value, dict) or set(value.value) != {"value"}:
        raise _override_error(keys, "cannot be set: its parent is not a table")
    _clear_lines(value)
    node.value[names[-1]] = value.value["value"]
    node.key_lines[names[-1]] = 0


def _override_error(path: str, problem: str) -> OverrideError:
    return OverrideError([ConfigFault(path, problem)], where=OPTION)


def _clear_lines(node: YamlNode) -> None:
    """Remove line numbers from a value that is not from the file."""
    node.line = 0
    node.key_lines = dict.fromkeys(node.key_lines, 0)
    if isinstance(node.value, dict):
        for child in node.value.values():
            _clear_lines(child)
    elif isinstance(node.value, list):
        for child in node.value:
            _clear_lines(child)


def parse_yaml(text: str, where: str) -> tuple[YamlNode, list[ConfigFault]]:
    """Parse a YAML document into a tree, and collect faults that leave the rest readable.

    Args:
        text: The document.
        where: Name of the file, for messages.

    Returns:
        The root, always a mapping, and a fault for each duplicate key.

    Raises:
        ConfigError: The text cannot be read as one YAML mapping of bounded size.
    """
    builder = _TreeBuilder()
    try:
        root = builder.document(yaml.parse(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise ConfigError(
            [ConfigFault("file", _plain_message(error), line=line)], where=where
        ) from error
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        problem = "has a character that YAML does not allow: is it a binary file?"
        raise ConfigError([ConfigFault("file", problem, line=line)], where=where) from error
    except _RefusedError as error:
        raise ConfigError(
            [ConfigFault("file", str(error), line=error.line)], where=where
        ) from error
    if root is None or (root.value is None and not root.raw):
        raise _config_error("is empty", where)
    if not isinstance(root.value, dict):
        problem = "must be a table of `key: value` lines"
        raise ConfigError([ConfigFault("file", problem, shorten(root.raw), root.line)], where=where)
    return root, builder.faults


def shorten(text: str, most: int = 48) -> str:
    """Return one line of at most `most` characters, for a message."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= most else text[: most - 1] + "…"


class _RefusedError(Exception):
    """The document is unusable as a whole."""

    def __init__(self, problem: str, line: int) -> None:
        self.line = line
        super().__init__(problem)


class _TreeBuilder:
    """Builds the tree from the parser's events, for one document."""

    def __init__(self) -> None:
        self.faults: list[ConfigFault] = []
        self._anchors: dict[str, YamlNode | None] = {}
        self._nodes = 0

    def document(self, events: Iterator[Any]) -> YamlNode | None:
        root: YamlNode | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    problem = "has a second document (`---`); only one is allowed"
                    raise _RefusedError(problem, _line(event))
                root = self._node(next(events), events, 0, "")
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int, path: str) -> YamlNode:
        line = _line(event)
        self._count(1, line)
        if depth > MAX_DEPTH:
            raise _RefusedError(f"is nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor or "", line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _scalar(event, line)
        elif event.tag is not None:
            raise _RefusedError(f"has the tag {shorten(event.tag)}; tags are not supported", line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(events, line, depth, path)
        else:
            node = self._mapping(events, line, depth, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, events: Iterator[Any], line: int, depth: int, path: str) -> YamlNode:
        items: list[YamlNode] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, depth + 1, f"{path}[{len(items)}]"))
        return YamlNode(items, line, size=1 + sum(item.size for item in items))

    def _mapping(self, events: Iterator[Any], line: int, depth: int, path: str) -> YamlNode:
        entries: dict[str, YamlNode] = {}
        key_lines: dict[str, int] = {}
        merged: list[YamlNode] = []
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_line = _line(event)
            key_node = self._node(event, events, depth + 1, path)
            name = key_node.value if isinstance(key_node.value, str) else None
            shown = name if name is not None else shorten(key_node.raw or "a table")
            here = f"{path}.{shown}" if path else shown
            value = self._node(next(events), events, depth + 1, here)
            if name is None:
                hint = f'write "{shown}" in quotes' if key_node.raw else "tables cannot be keys"
                problem = f"a key must be text; YAML parses this one as something else: {hint}"
                self.faults.append(ConfigFault(here, problem, line=key_line))
            elif name == "<<" and key_node.raw == "<<":
                merged.append(value)
            elif name in entries:
                first = key_lines[name]
                self.faults.append(
                    ConfigFault(here, f"is a duplicate; first in line {first}", line=key_line)
                )
            else:
                entries[name] = value
                key_lines[name] = key_line
        for value in merged:
            _merge(value, entries, key_lines)
        return YamlNode(entries, line, "", 1 + sum(n.size for n in entries.values()), key_lines)

    def _alias(self, anchor: str, line: int) -> YamlNode:
        node = self._anchors.get(anchor)
        if node is None:
            unknown = anchor not in self._anchors
            problem = "is not defined above" if unknown else "contains itself"
            raise _RefusedError(f"has the alias *{shorten(anchor)}, which {problem}", line)
        self._count(node.size, line)
        return node

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _RefusedError(f"has more than {MAX_NODES} values, aliases expanded", line)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _merge(value: YamlNode, entries: dict[str, YamlNode], key_lines: dict[str, int]) -> None:
    """Apply YAML's `<<`: add the keys that are not already present."""
    sources = value.value if isinstance(value.value, list) else [value]
    for source in sources:
        if not isinstance(source.value, dict):
            raise _RefusedError("has a `<<` that is not followed by a table", value.line)
        for key, node in source.value.items():
            if key not in entries:
                entries[key] = node
                key_lines[key] = source.key_lines[key]


def _scalar(event: Any, line: int) -> YamlNode:
    text: str = event.value
    if event.tag not in (None, "!", _STR_TAG):
        raise _RefusedError(f"has the tag {shorten(event.tag)}; tags are not supported", line)
    quoted = event.style is not None or event.tag is not None
    return YamlNode(text if quoted else _resolve(text), line, raw=text)


def _resolve(text: str) -> Scalar:
    """Return the value of an unquoted scalar."""
    if text in _NULLS:
        return None
    lowered = text.lower()
    if lowered in _BOOLS:
        return _BOOLS[lowered]
    if lowered in _SPECIAL or lowered in ("-.nan", "+.nan"):
        return _SPECIAL.get(lowered, math.nan)
    if len(text) <= 40:  # more digits than that are an identifier
        if _INT.match(text):
            return int(text.replace("_", ""), 0)
        if _FLOAT.match(text):
            return float(text)
    return text


def _plain_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "unknown fault"
    if "'\\t'" in problem:
        return "has a tab where YAML requires spaces: indent with spaces"
    context = f" ({error.context})" if error.context else ""
    return f"is not YAML: {shorten(problem, 120)}{shorten(context, 80)}"


def _config_error(problem: str, where: str) -> ConfigError:
    return ConfigError([ConfigFault("file", problem)], where=where)
