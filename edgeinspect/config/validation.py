"""Validates a tree against a type and collects all faults instead of raising the first.

msgspec stops at the first fault and reports types. A technician needs all of them, each with
its line, the value found and the values allowed. So the tree is compared here with msgspec's
description of the type; once it has no fault, msgspec creates the objects and validates them
finally (`__post_init__` included).
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, inspect

from edgeinspect import __version__
from edgeinspect.config.yaml_document import YamlNode, parse_yaml, shorten
from edgeinspect.errors import ConfigError, ConfigFault

SCHEMA: Final = 1
"""Version of the configuration files of this program."""


class _Invalid:
    """The type of `INVALID`."""


INVALID: Final = _Invalid()
"""Marks a value with a fault; checks that depend on it are skipped."""

_NAME_PATTERN = "^[a-z0-9][a-z0-9_-]{0,31}$"
_NAME_WORDS = "a name of lower-case letters, digits, `-` and `_`, at most 32"
_SECRET = re.compile(r"password|passwd|secret|token|private", re.IGNORECASE)


def suggest_spelling(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?`, or an empty string."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def describe_type(kind: inspect.Type) -> str:
    """Describe a type with its range, such as `a whole number from 1 to 9`."""
    if isinstance(kind, inspect.Metadata):
        description = (kind.extra_json_schema or {}).get("description")
        return str(description) if description else describe_type(kind.type)
    if isinstance(kind, (inspect.IntType, inspect.FloatType)):
        noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        return noun + _range(kind)
    if isinstance(kind, inspect.StrType):
        if kind.pattern == _NAME_PATTERN:
            return _NAME_WORDS
        matching = f" matching {kind.pattern}" if kind.pattern else ""
        return "text" + matching + _lengths(kind.min_length, kind.max_length, "characters")
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.NoneType):
        return "nothing"
    if isinstance(kind, (inspect.LiteralType, inspect.EnumType)):
        values = _choices(kind)
        listing = ", ".join(str(value) for value in values)
        return f"one of {listing}" if len(values) > 1 else listing
    if isinstance(kind, inspect.UnionType):
        return " or ".join(describe_type(option) for option in _without_none(kind))
    if isinstance(kind, (inspect.DictType, inspect.StructType)):
        return "a table"
    if isinstance(kind, inspect.ListType):
        size = _lengths(kind.min_length, kind.max_length, "entries")
        return f"a list{size}, each {describe_type(kind.item_type)}"
    if isinstance(kind, inspect.AnyType):
        return "anything"
    return type(kind).__name__.removesuffix("Type").lower()


def open_document(text: str, where: str) -> tuple[YamlNode, ConfigValidator]:
    """Parse a configuration; return its root, and a validator with the faults that it has so far.

    Raises:
        ConfigError: It cannot be read as one YAML table, or is of a later version.
    """
    root, faults = parse_yaml(text, where)
    assert isinstance(root.value, dict)
    version = root.value.get("schema")
    if version is not None and type(version.value) is int and version.value > SCHEMA:
        problem = (
            f"this file is of version {version.value}, and edgeinspect {__version__} reads "
            f"version {SCHEMA}: upgrade edgeinspect, or restore the file's earlier version"
        )
        raise ConfigError([ConfigFault("schema", problem, line=version.line)], where=where)
    validator = ConfigValidator()
    validator.faults.extend(faults)
    return root, validator


class ConfigValidator:
    """Validates nodes against types; collects faults and the valid values by path."""

    def __init__(self) -> None:
        self.faults: list[ConfigFault] = []
        self._valid: dict[str, Any] = {}

    def value_at(self, path: str) -> Any:
        """Return the validated value at a path, or its default; `INVALID` if faulty or absent."""
        return self._valid.get(path, INVALID)

    def add_fault(
        self, path: str, problem: str, node: YamlNode | None = None, line: int = 0
    ) -> None:
        """Add one fault, with the value and line of the node."""
        value = ""
        if node is not None:
            line = line or node.line
            value = _display_value(path, node)
        self.faults.append(ConfigFault(path, problem, value, line or None))

    def raise_faults(self, where: str) -> None:
        """Raise the faults found, in the order of lines.

        Raises:
            ConfigError: There is one.
        """
        if self.faults:
            raise ConfigError(sorted(self.faults, key=lambda fault: fault.line or 0), where=where)

    def validate_struct(
        self, node: YamlNode, cls: type[msgspec.Struct], path: str, skip: Sequence[str] = ()
    ) -> Any:
        """Validate a table against a struct.

        Args:
            node: The table.
            cls: The struct.
            path: Path of the table; empty for the root.
            skip: Keys that are validated elsewhere, such as `type`.

        Returns:
            The object, or `INVALID` with the faults added.
        """
        plain = self._struct(node, _struct_type(cls), path, skip)
        return INVALID if plain is INVALID else msgspec.convert(plain, cls)

    def _struct(
        self, node: YamlNode, kind: inspect.StructType, path: str, skip: Sequence[str] = ()
    ) -> Any:
        if not isinstance(node.value, dict):
            self.add_fault(path or "file", "must be a table", node)
            return INVALID
        before = len(self.faults)
        fields = {entry.encode_name: entry for entry in kind.fields}
        for key, value in node.value.items():
            if key not in fields and key not in skip:
                hint = suggest_spelling(key, fields)
                if not hint and fields:
                    hint = f"; known here: {', '.join(fields)}"
                self.add_fault(_join(path, key), f"unknown key{hint}", value, node.key_lines[key])
        plain: dict[str, Any] = {}
        for name, entry in fields.items():
            here = _join(path, name)
            child = node.value.get(name)
            if child is None:
                if entry.required:
                    self.add_fault(here, f"required: {describe_type(entry.type)}", line=node.line)
                else:
                    self._store_value(here, _default(entry))
            else:
                value = self._value(child, entry.type, here)
                if value is not INVALID:
                    plain[name] = value
        if len(self.faults) > before:
            return INVALID
        try:
            made = msgspec.convert(plain, kind.cls)
        except msgspec.ValidationError as error:
            self.add_fault(path or "file", str(error), line=node.line)
            return INVALID
        if path:
            self._valid[path] = made
        return plain

    def _value(self, node: YamlNode, kind: inspect.Type, path: str) -> Any:
        if isinstance(kind, inspect.Metadata):
            return self._value(node, kind.type, path)
        if isinstance(kind, inspect.UnionType):
            return self._union(node, kind, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind, path)
        if isinstance(kind, inspect.DictType):
            return self._table(node, kind, path)
        if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
            return self._list(node, kind, path)
        value = (
            _scalar(node.value, kind)
            if not isinstance(kind, inspect.AnyType)
            else node.to_builtins()
        )
        if value is INVALID:
            self.add_fault(path, f"must be {describe_type(kind)}{_type_hint(node, kind)}", node)
        else:
            self._valid[path] = value
        return value

    def _union(self, node: YamlNode, kind: inspect.UnionType, path: str) -> Any:
        options = _without_none(kind)
        if node.value is None and kind.includes_none:
            self._valid[path] = None
            return None
        if len(options) == 1:
            return self._value(node, options[0], path)
        for option in options:
            attempt = ConfigValidator()
            value = attempt._value(node, option, path)
            if not attempt.faults:
                self._valid.update(attempt._valid)
                return value
        self.add_fault(path, f"must be {describe_type(kind)}", node)
        return INVALID

    def _table(self, node: YamlNode, kind: inspect.DictType, path: str) -> Any:
        if not isinstance(node.value, dict):
            self.add_fault(path, "must be a table", node)
            return INVALID
        plain: dict[str, Any] = {}
        bad = False
        for key, child in node.value.items():
            here = _join(path, key)
            if _scalar(key, kind.key_type) is INVALID:
                line = node.key_lines[key]
                self.add_fault(here, f"the key must be {describe_type(kind.key_type)}", line=line)
                bad = True
            value = self._value(child, kind.value_type, here)
            bad = bad or value is INVALID
            plain[key] = value
        if bad:
            return INVALID
        self._valid[path] = plain
        return plain

    def _list(
        self, node: YamlNode, kind: inspect.ListType | inspect.VarTupleType, path: str
    ) -> Any:
        if not isinstance(node.value, list):
            self.add_fault(path, f"must be {describe_type(kind)}", node)
            return INVALID
        items = [
            self._value(child, kind.item_type, f"{path}[{index}]")
            for index, child in enumerate(node.value)
        ]
        size = len(items)
        if size < (kind.min_length or 0) or size > (kind.max_length or size):
            self.add_fault(path, f"must be {describe_type(kind)}", node)
            return INVALID
        if any(item is INVALID for item in items):
            return INVALID
        self._valid[path] = items
        return items

    def _store_value(self, path: str, value: Any) -> None:
        """Store a default, and the fields of a default section, for the cross checks."""
        self._valid[path] = value
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                self._store_value(_join(path, name), getattr(value, name))


def _join(path: str, key: str) -> str:
    return f"{path}.{shorten(key)}" if path else shorten(key)


@functools.cache
def _struct_type(cls: type[msgspec.Struct]) -> inspect.StructType:
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    return kind


def _default(entry: inspect.Field) -> Any:
    if entry.default_factory is not NODEFAULT:
        return entry.default_factory()
    return entry.default


def _scalar(value: Any, kind: inspect.Type) -> Any:
    """Return the value if it fits a scalar type, otherwise `INVALID`."""
    if isinstance(kind, (inspect.LiteralType, inspect.EnumType)):
        fits = any(value == each and type(value) is type(each) for each in _choices(kind))
    elif isinstance(kind, inspect.IntType):
        fits = isinstance(value, int) and not isinstance(value, bool) and _in_range(value, kind)
    elif isinstance(kind, inspect.FloatType):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = fits and math.isfinite(value) and _in_range(value, kind)
    elif isinstance(kind, inspect.StrType):
        fits = isinstance(value, str) and _text_fits(value, kind)
    elif isinstance(kind, inspect.BoolType):
        fits = isinstance(value, bool)
    elif isinstance(kind, inspect.NoneType):
        fits = value is None
    else:  # left to msgspec when it creates the object
        fits = True
    return value if fits else INVALID


def _in_range(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
        and (kind.multiple_of is None or value % kind.multiple_of == 0)
        and abs(value) < 1e300
    )


def _text_fits(value: str, kind: inspect.StrType) -> bool:
    if "\0" in value or len(value) < (kind.min_length or 0):
        return False
    if kind.max_length is not None and len(value) > kind.max_length:
        return False
    # Python's `$` also matches before a trailing line feed; a name has none.
    return kind.pattern is None or (
        re.search(kind.pattern, value) is not None and not value.endswith("\n")
    )


def _type_hint(node: YamlNode, kind: inspect.Type) -> str:
    """Return a hint if YAML parsed the value as another type than the text suggests."""
    if isinstance(kind, inspect.StrType):
        if node.value is None:
            return ", but is empty"
        if isinstance(node.value, (bool, int, float)):
            what = "true or false" if isinstance(node.value, bool) else "a number"
            return f'; YAML parses this as {what}: write "{node.raw}" in quotes'
    if isinstance(node.value, str) and isinstance(kind, (inspect.LiteralType, inspect.EnumType)):
        return suggest_spelling(node.value, [str(value) for value in _choices(kind)])
    return ""


def _display_value(path: str, node: YamlNode) -> str:
    if isinstance(node.value, dict):
        return "a table"
    if isinstance(node.value, list):
        return "a list"
    if _SECRET.search(path.rsplit(".", 1)[-1]):
        return "***"
    return shorten(node.raw) if node.raw else "nothing"


def _choices(kind: inspect.LiteralType | inspect.EnumType) -> list[Any]:
    if isinstance(kind, inspect.LiteralType):
        return list(kind.values)
    return [member.value for member in kind.cls]


def _without_none(kind: inspect.UnionType) -> list[inspect.Type]:
    return [option for option in kind.types if not isinstance(option, inspect.NoneType)]


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        words = f" from {_number(kind.ge)} to {_number(kind.le)}"
    else:
        bounds = (
            ("at least", kind.ge),
            ("above", kind.gt),
            ("at most", kind.le),
            ("below", kind.lt),
        )
        given = [f"{word} {_number(bound)}" for word, bound in bounds if bound is not None]
        words = " " + ", ".join(given) if given else ""
    if kind.multiple_of is not None:
        words += f", a multiple of {_number(kind.multiple_of)}"
    return words


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


def _lengths(least: int | None, most: int | None, noun: str) -> str:
    if least is not None and most is not None:
        return f" of {least} to {most} {noun}"
    if least is not None:
        return f" of at least {least} {noun}"
    return f" of at most {most} {noun}" if most is not None else ""
