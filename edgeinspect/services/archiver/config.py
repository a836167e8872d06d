"""The configuration of an archive: one file, one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgeinspect.client import LineConnectionConfig, check_line_connection
from edgeinspect.config import (
    INVALID,
    Name,
    Ratio,
    Section,
    Validator,
    address_problem,
    yaml_document,
)
from edgeinspect.errors import ConfigError
from edgeinspect.storage.archive import Category


class NearThreshold(Section, frozen=True):
    """Which scores of the gate count as near a threshold."""

    low: Ratio
    """From this defect probability on …"""
    high: Ratio
    """… to this one: the scores of which the gate was not sure."""


class ImageFormat(Section, frozen=True):
    """How pictures are written."""

    format: Literal["png", "jpeg"] = "png"
    """`png` is lossless. `jpeg` is smaller and not fit for retraining on fine defects."""
    png_level: Annotated[int, Meta(ge=0, le=9)] = 1
    """0 is fast and large, 9 slow and small."""
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)] = 95
    """Of OpenCV's encoder; 100 is not lossless."""


class Quotas(Section, frozen=True):
    """Share of the room that each kind is sure of, whatever the others need."""

    near: Ratio = 0.3
    """Of frames near a threshold."""
    reject: Ratio = 0.4
    """Of rejects by a clear margin."""
    no_verdict: Ratio = 0.05
    """Of frames that could not be judged."""
    passed: Ratio = 0.1
    """Of ordinary passes."""

    def quota_of(self, kind: Category) -> float:
        """The share of one kind; nothing is kept free for challenge parts."""
        return {
            Category.NEAR: self.near,
            Category.REJECT: self.reject,
            Category.NO_VERDICT: self.no_verdict,
            Category.PASS: self.passed,
        }.get(kind, 0.0)


class ArchiveConfig(Section, frozen=True):
    """One archive."""

    schema: Literal[1]
    archive: Name
    """This archive's name, in logs and acknowledgements."""
    feed: LineConnectionConfig
    """The line. It must run on this machine: pictures come through its shared memory."""
    folder: str
    """Where pictures are kept; on a disk that the ledger can spare."""
    max_mib: Annotated[float, Meta(ge=1, le=1_000_000_000)]
    """Room for pictures; beyond it the least useful are removed."""
    ring: str | None = None
    """The line's `spool.folder`, where its rings of pictures are; where that is by default when
    absent."""
    keep_days: Annotated[float, Meta(gt=0, le=36_500)] = 365
    """Pictures kept for longer are removed: days that have really passed, as of a ledger's
    `keep_days`."""
    min_free_mib: Annotated[float, Meta(ge=0, le=1_000_000_000)] = 1_024
    """With less than this free on the disk nothing is saved: the ledger may need it."""
    pass_ratio: Ratio = 0.001
    """Sampled fraction of ordinary passes."""
    near: NearThreshold | None = None
    """Absent, only frames that the gate suspected and the segmenter cleared count as near."""
    picture: ImageFormat = ImageFormat()
    memory_mib: Annotated[float, Meta(ge=1, le=1_000_000)] = 256
    """Pictures that wait to be written; beyond it the least useful are dropped."""
    encoders: Annotated[int, Meta(ge=1, le=16)] = 1
    """Threads that encode and write, at a lower priority than everything else."""
    shares: Quotas = Quotas()


def load_archive_config(path: str | Path) -> ArchiveConfig:
    """Read and check an archive's file.

    Raises:
        ConfigError: Every fault of the file.
    """
    return parse_archive_config(yaml_document.read_text(Path(path)), str(path))


def parse_archive_config(text: str, where: str = "archive") -> ArchiveConfig:
    """Check a configuration given as YAML text; as `load`."""
    root, faults = yaml_document.parse_yaml(text, where)
    collector = Validator()
    collector.faults.extend(faults)
    config = collector.validate_struct(root, ArchiveConfig, "")
    _check(collector, root)
    if collector.faults:
        ordered = sorted(collector.faults, key=lambda fault: fault.line or 0)
        raise ConfigError(ordered, where=where)
    assert isinstance(config, ArchiveConfig)
    return config


def _check(collector: Validator, root: yaml_document.Node) -> None:
    table = root.value if isinstance(root.value, dict) else {}
    for name in ("verdicts", "replay"):
        address = collector.value_at(f"feed.{name}")
        problem = address_problem(address) if isinstance(address, str) else None
        if problem:
            collector.add_fault(f"feed.{name}", problem, table.get("feed"))
    feed = table.get("feed")
    check_line_connection(
        collector, feed.value if feed is not None and isinstance(feed.value, dict) else {}
    )
    low, high = collector.value_at("near.low"), collector.value_at("near.high")
    if low is not INVALID and high is not INVALID and low > high:
        collector.add_fault(
            "near.low", f"must be at most near.high, which is {high:g}", table.get("near")
        )
    shares = [collector.value_at(f"shares.{name}") for name in Quotas.__struct_fields__]
    if INVALID not in shares and sum(shares) > 1:
        collector.add_fault(
            "shares", f"are {sum(shares):g} of the room in all; give at most 1", table.get("shares")
        )
