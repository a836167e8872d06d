"""Bounds of numbers in messages and files that others write."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What SQLite, struct and numpy can hold. JSON knows no bound: a decoder that takes 4,000 digits
raises OverflowError far from the message."""

UtcNs = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
"""ns since 1970; with any `DurationUs` added it is an `Int64` still."""

DurationUs = Annotated[int, Meta(ge=-(1 << 50), le=1 << 50)]
"""A time of one frame, in µs."""

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A number of things, a seq or an epoch; one more of it still fits."""

PlcWord = Annotated[int, Meta(ge=0, le=0xFFFF)]
"""What a PLC takes in one word."""

ImageSidePx = Annotated[int, Meta(ge=1, le=1 << 16)]
"""Height or width of a picture or class map."""
