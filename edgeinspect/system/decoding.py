"""Decoding of JSON, MessagePack and arrays that somebody else wrote: one error, whatever it does.

msgspec raises `DecodeError` for what is malformed, but `RecursionError` for deep nesting (also
inside a field that nobody reads), and `UnicodeDecodeError` for bytes that are no UTF-8. A thread
that forgets one of them dies of a message of 4 kB. Here all are `DecodeError`.

Nothing else in the project calls msgspec's decoders; a test checks it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Encoded = bytes | bytearray | memoryview | str
Decoder = Callable[[Encoded], T]

DecodeError = msgspec.DecodeError
"""What every decoder here raises, and nothing else."""
ARRAYS_BYTES_MAX = 2 << 30
"""Of all arrays of a file, unpacked: a few MB of zeros packed would fill any memory."""


@overload
def json_decoder(kind: type[T]) -> Decoder[T]: ...
@overload
def json_decoder(kind: Any) -> Decoder[Any]: ...
def json_decoder(kind: Any) -> Decoder[Any]:
    """A decoder of one type (or union), made once and called often. Thread-safe.

    Returns:
        A function of the JSON text that returns a `kind`, and raises `DecodeError` for all else.
    """
    return _guarded(msgspec.json.Decoder(kind).decode)


def msgpack_decoder(kind: type[T]) -> Decoder[T]:
    """As `json_decoder`, for MessagePack."""
    return _guarded(msgspec.msgpack.Decoder(kind).decode)


@overload
def decode_json(data: Encoded, kind: type[T]) -> T: ...
@overload
def decode_json(data: Encoded, kind: Any = ...) -> Any: ...
def decode_json(data: Encoded, kind: Any = Any) -> Any:
    """One document; raises `DecodeError` if it is no JSON of that type."""
    return json_decoder(kind)(data)


def decode_json_names(data: bytes) -> Any:
    r"""One document that holds file names: a byte that is no UTF-8 stands in it as `\udcef`.

    msgspec takes no lone surrogate. Raises `DecodeError` as the others.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise DecodeError("is nested too deeply") from error
    except ValueError as error:  # no UTF-8, malformed, or a number of thousands of digits
        raise DecodeError(f"JSON is malformed: {error}") from error


def decode_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, in new memory; never pickled objects.

    Raises:
        DecodeError: It is none, larger than `ARRAYS_BYTES_MAX` unpacked, or damaged: zipfile,
            zlib and numpy have an error each, and RuntimeError for a file that says to be
            encrypted.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:  # no member unpacks to more than it says
            size = sum(member.file_size for member in packed.infolist())
        if size > ARRAYS_BYTES_MAX:
            raise ValueError(f"{size} bytes unpacked, {ARRAYS_BYTES_MAX} at most")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:
        raise DecodeError(f"is no file of arrays: {error}") from error


def _guarded(decode: Callable[[Any], T]) -> Decoder[T]:
    def guarded(data: Encoded) -> T:
        try:
            return decode(data)
        except RecursionError as error:
            raise DecodeError("is nested too deeply") from error
        except UnicodeDecodeError as error:
            raise DecodeError(f"is not text in UTF-8 (byte {error.start})") from error

    return guarded
