"""Inputs that nobody would send by accident: random, mutated, deeply nested, enormous numbers.

Deterministic: one seed gives one sequence, so a failure can be repeated.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_STRING = re.compile(rb'"[^"\\]{0,80}"')
_VALUE = re.compile(rb'"[^"\\]{0,80}"|-?\d+(?:\.\d+)?|true|false|null')
_NUMBERS = (
    b"0",
    b"-1",
    b"-0",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"0.1",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"9" * 400,
    b"9" * 5000,
    b"NaN",
    b"Infinity",
    b"1e9",
    b"65536",
)
_STRINGS = (
    b'""',
    b'"' + b"a" * 5000 + b'"',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\\u202e"',
    b'"../../etc/passwd"',
    b'"=1+1"',
    b'"\\u001b[2J"',
    b'"\n"',
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"1",
    b'"\xf0\x9f\x98\x80"',
)
_KINDS = (*range(13), 7, 7, 8, 8, 9, 9)  # a message with another value is often still a message
_DEPTHS = (40, 1_000, 20_000)
_WORDS = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00" * 64,
    b"\x01\x00\x00\x00",
    b"\x00" * 4096,
)


def _nested(rng: random.Random) -> bytes:
    depth = rng.choice(_DEPTHS)
    kind = rng.randrange(4)
    if kind == 0:
        return b"[" * depth + b"]" * depth
    if kind == 1:
        return b'{"a":' * depth + b"1" + b"}" * depth
    if kind == 2:
        return b"[" * depth
    return b'[{"a":' * (depth // 2)


def _replace_one(rng: random.Random, data: bytes, what: re.Pattern[bytes], by: bytes) -> bytes:
    found = list(what.finditer(data))
    if not found:
        return data + by
    hit = rng.choice(found)
    return data[: hit.start()] + by + data[hit.end() :]


def _add_field(rng: random.Random, data: bytes) -> bytes:
    """A field that nobody reads, in front: it is skipped, and skipping recurses as well."""
    at = data.find(b"{") + 1
    return data[:at] + b'"unread":' + _nested(rng) + b"," + data[at:]


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _once(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return rng.randbytes(rng.randint(0, 64))
    kind = rng.choice(_KINDS)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return _flip(rng, data)
    if kind == 2:
        return data[:at] + rng.choice(_WORDS) + data[at:]
    if kind == 3:
        end = min(len(data), at + len(word := rng.choice(_WORDS[:5])))
        return data[:at] + word[: end - at] + data[end:]
    if kind == 4:
        return data[:at] + data[at + rng.randint(1, 64) :]
    if kind == 5:
        return data[:at] + data[max(0, at - rng.randint(1, 200)) :]
    if kind == 6:
        other = rng.choice(others)
        return data[:at] + other[rng.randrange(len(other) + 1) :]
    if kind in (7, 8):
        return _replace_one(rng, data, _NUMBER, rng.choice(_NUMBERS))
    if kind == 9:
        return _replace_one(rng, data, _STRING, rng.choice(_STRINGS))
    if kind == 10:
        return _replace_one(rng, data, _VALUE, _nested(rng))
    if kind == 11:
        return _add_field(rng, data)
    return data[: at // 2] + b"\0" * (len(data) - at // 2)  # the tail of a file still to be copied


def mutate(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """One hostile input, made of one of the samples, or of nothing."""
    if not samples or rng.random() < 0.05:
        return rng.choice((b"", rng.randbytes(rng.randint(1, 400)), _nested(rng)))
    data = rng.choice(samples)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = _once(rng, data, samples)
    return data
