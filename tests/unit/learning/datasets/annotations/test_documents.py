"""Hostile annotation files end in a message with the file, never in a traceback."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.documents import (
    parse_float,
    parse_whole,
    read_json,
    read_xml,
)

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(12))
    + "]><annotation>&m;</annotation>"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "has a document type or entities"),
        (
            '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
            "has a document type",
        ),
        ("<a>" * 200 + "</a>" * 200, "nested too deeply"),
        ("<a><b></a>", r"x\.xml:1: is not XML: mismatched tag"),
        ("<a>\n\n", r"x\.xml:\d: is not XML: no element found"),
        ("", "is not XML"),
        ("<a>&nbsp;</a>", "is not XML: undefined entity"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "is not XML"),
        ("\0" * 100, "is not XML"),
    ],
)
def test_hostile_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_xml(path)


def test_xml_in_other_encodings_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    for encoding in ("utf-8-sig", "utf-16", "iso-8859-1"):
        declared = encoding.removesuffix("-sig")
        path.write_bytes(f'<?xml version="1.0" encoding="{declared}"?><a>ä</a>'.encode(encoding))
        assert read_xml(path).text == "ä"


def test_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text("<a>" + " " * 1000 + "</a>")
    with pytest.raises(DataError, match="large"):
        read_xml(path, 100)
    with pytest.raises(DataError, match="large"):
        read_json(path, list[int], "a list", 100)


class _Named(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "is not a list: "),
        (b'[{"name": 5}]', r"Expected `str`, got `int` - at `\$\[0\]\.name`"),
        (b'[{"name": NaN}]', "is not a list: JSON is malformed"),
        (b'[{"name": "\xff"}]', "is not a list: "),
        (b'[{"name": "a"}', "is not a list: Input data was truncated"),
        (b"", "is not a list: Input data was truncated"),
        (b'[{"other": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]", "nested too deeply"),
    ],
)
def test_hostile_json_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_json(path, list[_Named], "a list")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path, list[int], "a list") == [1]


@pytest.mark.parametrize("text", ["", None, "nan", "inf", "-1e999", "x", "1,5", "9" * 400])
def test_numbers_are_finite(text: str | None) -> None:
    if text == "9" * 400:  # cut to its first digits: still far outside of any image
        assert parse_float(text, "x", "at") > 1e60
        return
    with pytest.raises(DataError, match=r"at: x is .*, not a number"):
        parse_float(text, "x", "at")


def test_whole_numbers() -> None:
    assert parse_whole(" 5.0 ", "x", "at") == 5
    with pytest.raises(DataError, match="not a whole number"):
        parse_whole("5.5", "x", "at")
