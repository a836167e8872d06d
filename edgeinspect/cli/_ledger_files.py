"""The ledger and the spool that the FILE of a command names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeinspect.errors import UsageError

if TYPE_CHECKING:
    from edgeinspect.config import LineConfig


def find_ledger_files(file: Path) -> tuple[Path, Path | None]:
    """Return the ledger, and the spool if FILE is a configuration."""
    if file.suffix not in {".yaml", ".yml"}:
        return file, None
    config = load_line(file)
    path, spool = ledger_files_of(config, file)
    unnamed = config.spool.folder is None and not spool.exists()  # it is where the unit keeps it
    return path, None if unnamed else spool


def load_line(file: Path) -> LineConfig:
    from edgeinspect.config import load_config

    return load_config(file).config


def ledger_files_of(config: LineConfig, file: Path) -> tuple[Path, Path]:
    """Return a line's ledger, and its spool, which may not exist."""
    from edgeinspect.storage.paths import find_shared_memory_folder

    if config.ledger is None:
        raise UsageError("this line keeps no ledger", where=str(file), remedy="Add `ledger: {}`")
    path = Path(config.ledger.folder) / f"{config.line}.ledger.sqlite"
    return path, find_shared_memory_folder(config) / f"{config.line}.spool"
