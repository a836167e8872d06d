"""What a release publishes: complete, equal from machine to machine, one version everywhere."""

from __future__ import annotations

import email
import importlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from edgeinspect import __version__
from tests import needs

ROOT = Path(__file__).parents[2]
GENERATED = ("edgeinspect.egg-info/", "PKG-INFO", "setup.cfg")
"""What setuptools writes into a source archive; setup.cfg gets a further section."""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "install"))
    return importlib.import_module("release")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Source archive and wheel of HEAD, built twice; the bytes are compared here."""
    needs.locked_versions()  # what is shipped
    needs.program("git")
    if not (ROOT / ".git").exists():
        pytest.skip("a release is built from a commit: this is no clone of the repository")
    sys.path.insert(0, str(ROOT / "install"))
    try:
        release = importlib.import_module("release")
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("release")
    pairs = []
    for name, mask in (("a", 0o022), ("b", 0o077)):
        (folder / name).mkdir()
        before = os.umask(mask)
        try:
            pairs.append(tuple(release.build(folder / name, []))[:2])
        finally:
            os.umask(before)
    for first, second in zip(*pairs, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    return pairs[0][0], pairs[0][1]


def tracked() -> set[str]:
    command = ["git", "ls-tree", "-r", "--name-only", "-z", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split("\0")) - {""}


@pytest.mark.slow
def test_the_source_archive_holds_what_the_commit_holds(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as tar:
        top = built[0].name.removesuffix(".tar.gz") + "/"
        files = {member.name.removeprefix(top) for member in tar if member.isfile()}
        assert {(member.uid, member.uname) for member in tar} == {(0, "")}
    own = {name for name in files if not name.startswith(GENERATED)}
    assert own == tracked() - {"setup.cfg"}


@pytest.mark.slow
def test_the_wheel_of_the_archive_is_complete(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(
            wheel.read(f"edgeinspect-{__version__}.dist-info/METADATA")
        )
    modules = {name for name in tracked() if name.startswith("edgeinspect/")}
    assert modules == {name for name in names if name.startswith("edgeinspect/")}
    assert sum(name.endswith("model.onnx") for name in names) == 4
    assert any(name.endswith("/LICENSE") for name in names)
    assert metadata["Version"] == __version__
    for field in ("Author", "Maintainer", "Summary", "Keywords", "Requires-Python"):
        assert metadata[field], field
    assert {text.partition(",")[0] for text in metadata.get_all("Project-URL")} >= {
        "Documentation",
        "Issues",
        "Source",
    }
    assert "Apache-2.0" in (metadata["License"] or metadata["License-Expression"])


def test_citation_and_changelog_have_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{citation['version']}] - {citation['date-released']}\n" in changelog
    released = __version__.partition(".dev")[0] == __version__
    assert not released or citation["version"] == __version__


def source_tree(folder: Path, version: str, changelog: str, citation: str) -> Path:
    (folder / "edgeinspect").mkdir()
    (folder / "edgeinspect" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    (folder / "CITATION.cff").write_text(citation)
    return folder


CITATION = 'version: 1.2.3\ndate-released: "2026-01-31"\n'
RELEASED = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n- New\n"


@pytest.mark.parametrize(
    ("version", "changelog", "citation", "fault"),
    [
        ("1.2.3", RELEASED, CITATION, None),
        ("1.2.3.dev0", RELEASED, CITATION, "a version of development"),
        ("1.2.4", RELEASED, CITATION, "no section `## [1.2.4]"),
        (
            "1.2.3",
            RELEASED.replace("## [1", "### Fixed\n\n- That\n\n## [1"),
            CITATION,
            "under [Unreleased]",
        ),
        ("1.2.3", RELEASED, CITATION.replace("01-31", "01-30"), "date-released is not 2026-01-31"),
        ("1.2.3", RELEASED, CITATION.replace("1.2.3", "1.2.2"), "version is not 1.2.3"),
    ],
)
def test_what_is_no_release_is_named(
    release: ModuleType, tmp_path: Path, version: str, changelog: str, citation: str, fault: str
) -> None:
    faults = release.release_faults(source_tree(tmp_path, version, changelog, citation))
    if fault is None:
        assert faults == []
    else:
        assert any(fault in found for found in faults), faults
