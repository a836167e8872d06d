"""Ranges of numbers in messages and files from other programs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""The range of SQLite, struct and numpy. JSON has no limit: a decoder that accepts 4,000 digits
raises OverflowError far from the message."""

UtcNs = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
"""ns since 1970; the sum with any `DurationUs` is still an `Int64`."""

DurationUs = Annotated[int, Meta(ge=-(1 << 50), le=1 << 50)]
"""A duration within one frame, in µs."""

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A count, a seq or an epoch; incremented by one it is still an `Int64`."""

PlcWord = Annotated[int, Meta(ge=0, le=0xFFFF)]
"""A number in one word of a PLC."""

ImageSidePx = Annotated[int, Meta(ge=1, le=1 << 16)]
"""Height or width of an image or class map."""
