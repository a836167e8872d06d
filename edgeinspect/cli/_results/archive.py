"""Archived images: `archive`, `rescore`."""

from __future__ import annotations

from typing import Any

import msgspec


class ArchivedFrame(msgspec.Struct, kw_only=True):
    """`archive list`: a frame, one per line."""

    name: str
    epoch: int
    seq: int
    camera: str
    captured_at: str
    """UTC, ISO 8601."""
    captured_at_utc_ns: int
    kind: str
    label: str
    """Class of the worst region."""
    decision: str
    reason: str
    defect_prob: float | None
    size_bytes: int
    path: str
    """Path of its record, relative to the archive."""


class ArchiveLoss(msgspec.Struct, kw_only=True):
    """`archive list --lost`: frames of one hour without an image, one object per line."""

    hour: str
    """Its beginning; UTC, ISO 8601."""
    kind: str
    why: str
    frames: int


class ArchiveExport(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.archive_export/1"
):
    """`archive export`: the data set that was written."""

    folder: str
    images: int
    defective: int
    classes: list[str]
    notes: list[str]


class ArchiveCheck(
    msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.archive_check/1"
):
    """`archive check`: whether every image is as it was saved."""

    intact: int
    broken: list[str]
    """Records that are unreadable or do not match their image."""
    unindexed: int
    """Frames that the index does not have yet."""


class RescoreOutcome(msgspec.Struct, kw_only=True, tag_field="schema", tag="edgeinspect.rescore/1"):
    """`rescore`: the completed run; results.csv has a row per frame."""

    folder: str
    frames: int
    without_result: int
    summary: dict[str, Any]
    """The content of summary.json."""
