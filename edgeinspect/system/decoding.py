"""Decoding of untrusted JSON, YAML, MessagePack and array files: every failure is a `DecodeError`.

msgspec raises `DecodeError` for what is malformed, but `RecursionError` for deep nesting (also
inside an unused field), and `UnicodeDecodeError` for bytes that are not UTF-8. A thread that
catches only one of them can be ended by a message of 4 kB. Here all become `DecodeError`.

No other module calls msgspec's decoders; a test checks this.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

T = TypeVar("T")
Encoded = bytes | bytearray | memoryview | str
Decoder = Callable[[Encoded], T]

DecodeError = msgspec.DecodeError
"""The only exception that the decoders of this module raise."""
ARRAYS_BYTES_MAX = 2 << 30
"""Maximum size of a file's arrays, unpacked: a few MB of compressed zeros would fill the memory."""


@overload
def json_decoder(kind: type[T]) -> Decoder[T]: ...
@overload
def json_decoder(kind: Any) -> Decoder[Any]: ...
def json_decoder(kind: Any) -> Decoder[Any]:
    """Create a reusable decoder for a type or union. Thread-safe.

    Returns:
        A function from JSON text to a `kind`; it raises `DecodeError` for anything else.
    """
    return _guarded(msgspec.json.Decoder(kind).decode)


def msgpack_decoder(kind: type[T]) -> Decoder[T]:
    """Create a reusable MessagePack decoder; see `json_decoder`."""
    return _guarded(msgspec.msgpack.Decoder(kind).decode)


@overload
def decode_json(data: Encoded, kind: type[T]) -> T: ...
@overload
def decode_json(data: Encoded, kind: Any = ...) -> Any: ...
def decode_json(data: Encoded, kind: Any = Any) -> Any:
    """Decode one document; raises `DecodeError` if it is not JSON of that type."""
    return json_decoder(kind)(data)


def decode_json_names(data: bytes) -> Any:
    r"""Decode one document with file names, in which a byte that is not UTF-8 is written `\udcef`.

    msgspec does not accept lone surrogates. Raises `DecodeError` as the other decoders do.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise DecodeError("is nested too deeply") from error
    except ValueError as error:  # not UTF-8, malformed, or a number with thousands of digits
        raise DecodeError(f"JSON is malformed: {error}") from error


def decode_yaml_text(text: str) -> Any:
    """Decode one YAML document as mappings, lists and text: `{0: no}` has the key "0", not 0.

    For files of other programs; the project's own are parsed by `config.yaml_document`. Aliases
    are shared, not expanded. Raises `DecodeError` as the other decoders do.
    """
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError as error:
        raise DecodeError("is nested too deeply") from error
    except yaml.YAMLError as error:
        problem = str(getattr(error, "problem", None) or error)
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark is not None else ""
        raise DecodeError(f"YAML is malformed: {problem[:100]}{line}") from error


def decode_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Decode the arrays of an .npz file into new memory; never pickled objects.

    Raises:
        DecodeError: It is not an .npz file, larger than `ARRAYS_BYTES_MAX` unpacked, or damaged:
            zipfile, zlib and numpy each raise their own error, and RuntimeError for an encrypted
            file.
    """
    try:
        with zipfile.ZipFile(
            io.BytesIO(data)
        ) as packed:  # no member unpacks to more than its header states
            size = sum(member.file_size for member in packed.infolist())
        if size > ARRAYS_BYTES_MAX:
            raise ValueError(f"{size} bytes unpacked; the maximum is {ARRAYS_BYTES_MAX}")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise DecodeError(f"is not a valid .npz file: {error}") from error


def _guarded(decode: Callable[[Any], T]) -> Decoder[T]:
    def guarded(data: Encoded) -> T:
        try:
            return decode(data)
        except RecursionError as error:
            raise DecodeError("is nested too deeply") from error
        except UnicodeDecodeError as error:
            raise DecodeError(f"is not text in UTF-8 (byte {error.start})") from error

    return guarded
