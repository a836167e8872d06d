"""Reads annotation files of bounded size: JSON by msgspec, XML by expat without entities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree
from xml.parsers import expat

import msgspec

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.label_files import as_utf8
from edgeinspect.system import DecodeError, json_decoder, read_regular

T = TypeVar("T")

JSON_BYTES_MAX = 1 << 30
"""COCO's own file of 118 thousand images has 450 MB."""
XML_BYTES_MAX = 1 << 28
_MAX_DEPTH = 32


def read_json(path: Path, kind: type[T], what: str, bytes_max: int = JSON_BYTES_MAX) -> T:
    """Decode a JSON file.

    Args:
        path: The file.
        kind: A msgspec type.
        what: Name of the format, for messages.
        bytes_max: A larger file is refused.

    Raises:
        DataError: Unreadable, too large, not JSON, nested too deeply, with NaN, or of another
            structure; the message has the entry.
    """
    data = read_regular(path, bytes_max)
    try:
        return json_decoder(kind)(as_utf8(data))
    except DecodeError as error:
        raise DataError(
            f"is not {what}: {str(error)[:200]}",
            where=str(path),
            remedy="Export it again, as UTF-8 or UTF-16, and without NaN",
        ) from error


def check_json(path: Path, bytes_max: int = JSON_BYTES_MAX) -> None:
    """Check that a file is JSON of any structure; raises as `read_json`."""
    read_json(path, msgspec.Raw, "JSON", bytes_max)


def read_xml(path: Path, bytes_max: int = XML_BYTES_MAX) -> ElementTree.Element:
    """Parse an XML file without a document type, so that no entity can expand or be fetched.

    Raises:
        DataError: Unreadable, too large, malformed, nested too deeply, or with a document type.
    """
    data = read_regular(path, bytes_max)
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _refused(path, parser.CurrentLineNumber, "is nested too deeply")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse_doctype(*_: object) -> None:
        raise _refused(
            path,
            parser.CurrentLineNumber,
            "has a document type or entities, which annotation files do not need",
            "Remove the DOCTYPE if you trust the file",
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse_doctype
    parser.EntityDeclHandler = refuse_doctype
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise _refused(
            path, parser.CurrentLineNumber, f"is not XML: {error}", "Export it again"
        ) from error


def _refused(path: Path, line: int, what: str, remedy: str = "") -> DataError:
    return DataError(what, where=f"{path}:{line}", remedy=remedy)


def child_text(element: ElementTree.Element, name: str) -> str:
    """Return the text of a child element without surrounding blanks; empty if there is none."""
    return (element.findtext(name) or "").strip()


def parse_float(text: str | None, what: str, where: str) -> float:
    """Return a finite number.

    Raises:
        DataError: It is missing, not a number, infinite or NaN.
    """
    try:
        value = float((text or "").strip()[:64])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{what} is {(text or 'missing')[:40]!r}, not a number", where=where)
    return value


def parse_floats(texts: Sequence[str], what: str, where: str) -> list[float]:
    """Return finite numbers; see `parse_float`."""
    return [parse_float(text, what, where) for text in texts]


def parse_whole(text: str | None, what: str, where: str) -> int:
    """Return a whole number, also if it is written as 5.0.

    Raises:
        DataError: As `parse_float`, or it has a fraction.
    """
    value = parse_float(text, what, where)
    if value != int(value):
        raise DataError(f"{what} is {(text or '')[:40]!r}, not a whole number", where=where)
    return int(value)
