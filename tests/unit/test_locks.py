"""The locks and setup.cfg agree, for every Python and processor; nothing is downloaded."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PROCESSORS = ("x86_64", "aarch64")
EVERYWHERE = [(python, processor) for python in PYTHONS for processor in PROCESSORS]


def installer(name: str) -> ModuleType:
    """One of the installer's own modules, which are no package."""
    sys.path.insert(0, str(ROOT / "install"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "install"))


lock = installer("lock")
requirements = installer("requirements")


def markers(python: str, processor: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "platform_machine": processor,
        "extra": "",
    }


@pytest.mark.parametrize(("python", "processor"), EVERYWHERE)
@pytest.mark.parametrize("name", requirements.ENVIRONMENTS)
def test_each_requirement_of_setup_cfg_is_locked(name: str, python: str, processor: str) -> None:
    environment = markers(python, processor)
    locked = lock.locked(name, environment)
    extras = requirements.ENVIRONMENTS[name]
    wanted = [Requirement(line) for line in requirements.own_requirements(extras)]
    wanted += [Requirement(line) for line in requirements.extra_requirements([requirements.BUILD])]
    for each in wanted:
        if each.name == "torch" or (each.marker and not each.marker.evaluate(environment)):
            continue
        version = locked.get(canonicalize_name(each.name))
        assert version is not None, f"{each} is not in {name}.txt: make lock"
        assert each.specifier.contains(version, prereleases=True), f"{each}, {version}: make lock"


@pytest.mark.parametrize("name", ["build", *requirements.ENVIRONMENTS])
def test_each_version_has_hashes_and_applies_once(name: str) -> None:
    pins = lock.read(name)
    for pin in pins:
        assert pin.hashes, f"{pin.name} in {name}.txt has no hash"
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in pin.hashes)
    for python, processor in EVERYWHERE:
        environment = markers(python, processor)
        names = [pin.name for pin in pins if lock.applies(pin, environment)]
        assert len(names) == len(set(names)), f"{name}.txt has two versions on Python {python}"


def test_every_environment_has_the_versions_of_the_tests() -> None:
    for python, processor in EVERYWHERE:
        environment = markers(python, processor)
        tested = lock.locked("test", environment).items()
        assert all(
            lock.locked(name, environment).items() <= tested for name in requirements.ENVIRONMENTS
        )


def test_the_locks_name_no_place() -> None:
    """Neither an index nor a folder of the machine that made them."""
    for path in sorted((ROOT / "install" / "locks").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"https?:|file:|--index|--find-links|(?<!-)/(home|tmp|root|work)/", text
        )


def dry_run(*variables: str) -> str:
    """What `make venv` would do; without the variables of the make that runs these tests."""
    outer = ("TORCH", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
    return subprocess.run(
        ["make", "-n", "VENV=/nonexistent", "venv", *variables],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in outer},
        capture_output=True,
        text=True,
    ).stdout


def test_torch_is_pinned_the_same_everywhere() -> None:
    """In setup.cfg, by which `make test` installs it, and in the file for uv."""
    pins = {
        str(each.specifier)
        for extra in ("train", "zoo")
        for each in map(Requirement, requirements.extra_requirements([extra]))
        if each.name == "torch"
    }
    (pin,) = pins
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'name = "torch"\nversion = "{pin.removeprefix("==")}"' in project
    assert f"install --no-compile torch{pin}" in dry_run()


def test_what_torch_requires_is_as_in_its_own_metadata() -> None:
    """In the file for uv, which never sees the metadata of the build for a processor."""
    try:
        told = importlib.metadata.requires("torch") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torch is not installed: extra train")
    required = {
        canonicalize_name(each.name)
        for each in map(Requirement, told)
        if not each.marker or each.marker.evaluate({"extra": ""})
    }
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = project.partition('name = "torch"')[2]
    named = {
        canonicalize_name(Requirement(text).name) for text in re.findall(r'"([a-z].+?)"', block)
    }
    cuda = {name for name in required if name.startswith(("nvidia", "cuda", "triton"))}
    assert required - cuda == named


def test_these_tests_run_with_what_is_locked() -> None:
    """So that what is shipped is what was tested; elsewhere, such as in `make newest`, a skip."""
    present = {name: each for name, each in lock.installed().items() if name not in lock.NOT_LOCKED}
    found = lock.differences(lock.locked("test"), present)
    differing = [line for line in found if not line.endswith("is not in the lock")]
    if differing:
        pytest.skip(f"this environment differs from install/locks/test.txt: {differing[0]}, ...")


def test_differences_are_named() -> None:
    found = lock.differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "3", "d": "4"})
    assert list(found) == [
        "b is 3, locked is 2",
        "c 3 is missing",
        "d 4 is not in the lock",
    ]


def test_without_uv_the_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    done = subprocess.run(
        [str(tmp_path / "python3"), str(ROOT / "install" / "lock.py")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "lock: uv is not installed" in done.stderr
    assert "pip install uv" in done.stderr


@pytest.mark.parametrize("switch", ["no", ""])
def test_torch_can_be_left_out(switch: str) -> None:
    told = dry_run(*([f"TORCH={switch}"] if switch else []))
    assert "--requirement install/locks/test.txt" in told
    assert ("torch==" in told) is (switch == "")


def test_torch_for_a_processor_is_pytorch_s_own_of_the_same_version() -> None:
    told = dry_run("TORCH=cpu")
    pinned = re.search(r"install --no-compile (torch==\S+)$", dry_run(), flags=re.MULTILINE)
    assert pinned is not None
    url = "https://download.pytorch.org/whl/cpu"
    assert f"install --no-compile {pinned[1]} --index-url {url}\n" in told
