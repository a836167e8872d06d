"""The archiver's configuration, examples and documentation."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from edgeinspect.cli.main import main
from edgeinspect.domain.clock import SystemClock
from edgeinspect.errors import ConfigError
from edgeinspect.services.archiver.config import load_archive_config, parse_archive_config
from edgeinspect.services.archiver.service import ArchiverService
from edgeinspect.services.gateway.config import parse_config as parse_gateway
from edgeinspect.storage.archive.format import ArchiveCategory
from tests.archive_fixture import config

ROOT = Path(__file__).resolve().parents[4]


def test_example_is_valid_and_matches_the_example_line() -> None:
    from edgeinspect.config.loader import load_config as load_line

    config_file = load_archive_config(ROOT / "examples" / "archive.yaml")
    line = load_line(ROOT / "examples" / "strip.yaml").config
    assert config_file.feed.line == line.line
    assert (config_file.feed.verdicts, config_file.feed.replay) == (
        line.publish.verdicts,
        line.publish.replay,
    )
    assert config_file.near is not None
    assert config_file.near.low < config_file.near.high


def test_service_example_matches_its_line() -> None:
    from edgeinspect.config.loader import load_config as load_line

    config_file = load_archive_config(ROOT / "examples" / "service" / "example.archive.yaml")
    line = load_line(ROOT / "examples" / "service" / "example.yaml").config
    assert config_file.feed.line == line.line
    assert config_file.ring in (None, line.spool.folder)
    assert (config_file.feed.verdicts, config_file.feed.replay) == (
        line.publish.verdicts,
        line.publish.replay,
    )


def test_lists_every_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_archive_config("""\
schema: 1
archive: A!
feed: {line: t, verdicts: "nowhere"}
folder: /x
max_mib: 0
near: {low: 0.9, high: 0.1}
shares: {near: 0.9, reject: 0.9}
pass_ration: 0.1
""")
    words = str(caught.value)
    for part in (
        "archive:",
        "feed.verdicts:",
        "max_mib:",
        "near.low: must be at most near.high",
        "shares:",
        "did you mean `pass_ratio`",
    ):
        assert part in words, part


def test_invalid_file_exits_with_78(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("schema: 1\n")
    assert main(["archive", "run", str(tmp_path / "a.yaml")]) == 78


def test_documentation_lists_the_categories_in_order() -> None:
    text = (ROOT / "docs" / "howto" / "archive.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]*\|$", text, flags=re.MULTILINE)
    assert [name for name in named if name in {kind.value for kind in ArchiveCategory}] == [
        kind.value for kind in ArchiveCategory
    ]


def test_gateway_example_in_plant_docs_is_valid() -> None:
    text = (ROOT / "docs" / "howto" / "plant.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "gateway:" in b]
    assert parse_gateway(block).link.type == "mqtt"


def test_failed_connection_releases_the_folder(tmp_path: Path) -> None:
    import msgspec

    config_file = config(tmp_path)
    bad = msgspec.structs.replace(config_file.feed, replay="nonsense")
    for _turn in range(2):  # the second try would fail if the first still locked the folder
        with pytest.raises(Exception, match="is not an address"):
            ArchiverService(msgspec.structs.replace(config_file, feed=bad), SystemClock())
    assert sqlite3.connect(tmp_path / "archive" / "index.sqlite").close() is None
