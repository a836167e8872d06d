"""The archiver's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edgeinspect.client import LineConnectionConfig, check_line_connection
from edgeinspect.config import (
    INVALID,
    ConfigSection,
    ConfigValidator,
    Name,
    Ratio,
    address_problem,
    open_document,
    yaml_document,
)
from edgeinspect.storage.archive import ArchiveCategory


class NearThreshold(ConfigSection, frozen=True):
    """Which gate scores count as near a threshold."""

    low: Ratio
    """Lowest defect probability …"""
    high: Ratio
    """… and highest, of scores that count as uncertain."""


class ImageFormat(ConfigSection, frozen=True):
    """How images are written."""

    format: Literal["png", "jpeg"] = "png"
    """`png` is lossless. `jpeg` is smaller and unsuitable for training on fine defects."""
    png_level: Annotated[int, Meta(ge=0, le=9)] = 1
    """0 is fast and large, 9 slow and small."""
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)] = 95
    """As OpenCV defines it; 100 is not lossless."""


class ArchiveQuotas(ConfigSection, frozen=True):
    """Share of the capacity that is reserved for each kind."""

    near: Ratio = 0.3
    """For frames near a threshold."""
    reject: Ratio = 0.4
    """For rejects by a clear margin."""
    no_verdict: Ratio = 0.05
    """For frames without a verdict."""
    passed: Ratio = 0.1
    """For ordinary passes."""
    unknown: Ratio = 0.0
    """For what a good-parts model found; what the others leave is also for these."""

    def quota_of(self, kind: ArchiveCategory) -> float:
        """Return the share of a category; challenge parts have none."""
        return {
            ArchiveCategory.NEAR: self.near,
            ArchiveCategory.REJECT: self.reject,
            ArchiveCategory.NO_VERDICT: self.no_verdict,
            ArchiveCategory.PASS: self.passed,
            ArchiveCategory.UNKNOWN: self.unknown,
        }.get(kind, 0.0)


class ArchiveConfig(ConfigSection, frozen=True):
    """One archive."""

    schema: Literal[1]
    archive: Name
    """Name of this archive, in logs and acknowledgements."""
    feed: LineConnectionConfig
    """The line. It must run on this PC: frames are read from its shared memory."""
    folder: str
    """Where frames are saved; preferably not on the disk of the ledger."""
    max_mib: Annotated[float, Meta(ge=1, le=1_000_000_000)]
    """Capacity; beyond it the least useful frames are removed."""
    ring: str | None = None
    """The line's `spool.folder`, which holds its frame rings; its default location when absent."""
    keep_days: Annotated[float, Meta(gt=0, le=36_500)] = 365
    """Older frames are removed. Counts elapsed days, independent of clock changes, as the
    ledger's `keep_days` does."""
    min_free_mib: Annotated[float, Meta(ge=0, le=1_000_000_000)] = 1_024
    """Nothing is saved while less than this is free on the disk: the ledger may need it."""
    pass_ratio: Ratio = 0.001
    """Fraction of ordinary passes that is saved."""
    near: NearThreshold | None = None
    """When absent, only frames that the gate suspected and the segmenter cleared count as near."""
    picture: ImageFormat = ImageFormat()
    memory_mib: Annotated[float, Meta(ge=1, le=1_000_000)] = 256
    """Memory for frames that wait to be written; beyond it the least useful are dropped."""
    encoders: Annotated[int, Meta(ge=1, le=16)] = 1
    """Threads that encode and write, at low priority."""
    shares: ArchiveQuotas = ArchiveQuotas()


def load_archive_config(path: str | Path) -> ArchiveConfig:
    """Load and validate a configuration file.

    Raises:
        ConfigError: Lists every fault of the file.
    """
    return parse_archive_config(yaml_document.read_text(Path(path)), str(path))


def parse_archive_config(text: str, where: str = "archive") -> ArchiveConfig:
    """Validate YAML text; raises as `load_archive_config`."""
    root, validator = open_document(text, where)
    config = validator.validate_struct(root, ArchiveConfig, "")
    _check(validator, root)
    validator.raise_faults(where)
    assert isinstance(config, ArchiveConfig)
    return config


def _check(validator: ConfigValidator, root: yaml_document.YamlNode) -> None:
    table = root.value if isinstance(root.value, dict) else {}
    for name in ("verdicts", "replay"):
        address = validator.value_at(f"feed.{name}")
        problem = address_problem(address) if isinstance(address, str) else None
        if problem:
            validator.add_fault(f"feed.{name}", problem, table.get("feed"))
    feed = table.get("feed")
    feed_table = feed.value if feed is not None and isinstance(feed.value, dict) else {}
    check_line_connection(validator, feed_table)
    low, high = validator.value_at("near.low"), validator.value_at("near.high")
    if low is not INVALID and high is not INVALID and low > high:
        problem = f"must be at most near.high, which is {high:g}"
        validator.add_fault("near.low", problem, table.get("near"))
    shares = [validator.value_at(f"shares.{name}") for name in ArchiveQuotas.__struct_fields__]
    if INVALID not in shares and sum(shares) > 1:
        problem = f"add up to {sum(shares):g}; must be at most 1"
        validator.add_fault("shares", problem, table.get("shares"))
