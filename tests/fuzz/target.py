"""What a decoder's entry says, and how one input is put to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.errors import EdgeInspectError, InternalError
from edgeinspect.system.decoding import DecodeError
from tests.fuzz.mutation import mutate


@dataclass(frozen=True)
class Target:
    """One decoder of bytes that somebody else wrote."""

    name: str
    decode: Callable[[bytes, Path], object]
    """Takes the input, and an empty folder of its own for those that read files."""
    samples: Sequence[bytes]
    """Valid inputs, to be mutated."""
    refuses_with: tuple[type[Exception], ...] = (EdgeInspectError, DecodeError)
    """What it may raise; everything else would end a thread."""


class BrokenDecoderError(AssertionError):
    """A decoder raised what it must not, with the input that made it."""


def put(target: Target, data: bytes, folder: Path) -> bool:
    """True if the input was taken, False if it was refused as it should be.

    Raises:
        BrokenDecoderError: Anything else happened.
    """
    try:
        target.decode(data, folder)
    except target.refuses_with as error:
        if isinstance(error, InternalError):
            raise BrokenDecoderError(f"{target.name}: {error!r} for {data[:300]!r}") from error
        return False
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise BrokenDecoderError(
            f"{target.name}: {type(error).__name__}: {error} for {len(data)} bytes {data[:300]!r}"
        ) from error
    return True


def attack(target: Target, seed: int, count: int, folder: Path) -> tuple[int, int]:
    """Put `count` inputs of one seed to a decoder: (taken, refused)."""
    rng = random.Random(f"{target.name}/{seed}")
    taken = sum(put(target, mutate(rng, target.samples), folder) for _ in range(count))
    return taken, count - taken
