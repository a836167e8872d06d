"""A folder with one file of each kind, under the names that the examples in the help use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.file_kinds import make_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    make_files(folder)
    return folder


@pytest.fixture
def in_files(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working directory and with its models."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("EDGEINSPECT_STORE", str(files / "engines"))
    return files
