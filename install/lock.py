"""Locks every environment's versions with hashes: `make lock`.

    python3 install/lock.py                    after a change of setup.cfg: other versions are kept
    python3 install/lock.py --upgrade          the newest of everything
    python3 install/lock.py --verify line      compares this environment with its lock

One file an environment, valid for Python 3.10 to 3.13 on x86-64 and aarch64; a version that not
all of these have is there more than once, with markers. `build` is what installs the others:
pip and setuptools. torch is not in `test`, only what it requires: each of its builds (processor,
CUDA) is a file of its own with the same version, so it is pinned in setup.cfg and installed last.

Source: https://docs.astral.sh/uv/pip/compile/; pip's "Secure installs".
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from requirements import BUILD, ENVIRONMENTS, ROOT, extra_requirements, own_requirements

LOCKS = ROOT / "install" / "locks"
NOT_LOCKED = ("edgeinspect", "torch")
"""In an environment beside what is locked: the project, and torch as its own step."""
EXIT_DIFFERENT = 1


def main() -> int:
    """Write the locks, or compare an environment with one."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--upgrade", action="store_true", help="to the newest versions")
    parser.add_argument("--verify", metavar="NAME", choices=ENVIRONMENTS, help="compare only")
    options = parser.parse_args()
    if options.verify:
        return verify(options.verify)
    compile_lock("build", extra_requirements([BUILD]), [], upgrade=options.upgrade)
    for name in ("test", *(name for name in ENVIRONMENTS if name != "test")):
        requirements = own_requirements(ENVIRONMENTS[name])
        # Every other environment is a part of `test`, and has its versions.
        constraints = ["build"] if name == "test" else ["build", "test"]
        compile_lock(name, requirements, constraints, upgrade=options.upgrade)
    return 0


# -- writing -----------------------------------------------------------------------------


def compile_lock(
    name: str, requirements: list[str], constraints: list[str], *, upgrade: bool
) -> None:
    """Write one lock; versions in it are kept where they satisfy the requirements."""
    # `--no-build`: a version without wheels would be compiled on the line PC.
    command = [uv(), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-build"]
    command += ["--python-version", "3.10", "--no-python-downloads"]
    command += ["--no-emit-package", "torch", "--custom-compile-command", "make lock"]
    command += [word for each in constraints for word in ("--constraint", f"{each}.txt")]
    command += ["--upgrade"] if upgrade else []
    text = "\n".join(requirements)
    try:
        subprocess.run(
            [*command, "-o", f"{name}.txt", "-"], input=text, text=True, cwd=LOCKS, check=True
        )
    except subprocess.CalledProcessError:
        sys.exit(f"lock: {name}.txt is unchanged: uv could not resolve it (above)")
    print(f"lock: {(LOCKS / name).relative_to(ROOT)}.txt: {len(read(name))} versions")


def uv() -> str:
    """Return the path of uv: this environment's, else the system's."""
    own = Path(sys.executable).with_name("uv")
    found = str(own) if os.access(own, os.X_OK) else shutil.which("uv")
    if found is None:
        sys.exit(
            "lock: uv is not installed, and only it can lock for every Python at once. It is in "
            "the environment of `make venv`, or: pip install uv"
        )
    return found


# -- reading -----------------------------------------------------------------------------


@dataclass
class Pin:
    """One version in a lock."""

    name: str
    version: str
    marker: str
    """When it applies; empty: always."""
    hashes: list[str] = field(default_factory=list)


def read(name: str) -> list[Pin]:
    """Return the versions in a lock, for all interpreters."""
    pins: list[Pin] = []
    for line in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].rstrip("\\ ")
        if text.strip().startswith("--hash="):
            pins[-1].hashes.append(text.strip().removeprefix("--hash="))
        elif text:
            requirement, _, marker = text.partition(" ; ")
            pins.append(Pin(*requirement.split("=="), marker))
    return pins


def locked(name: str, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Return name and version of each distribution of an environment, with its build tools.

    Args:
        name: Of the environment.
        environment: Values of markers that differ from this interpreter's.
    """
    pins = (*read("build"), *read(name))
    return {pin.name: pin.version for pin in pins if applies(pin, environment)}


def applies(pin: Pin, environment: dict[str, str] | None = None) -> bool:
    """Return whether a version is for this interpreter, or for one with other markers."""
    from pip._vendor.packaging.markers import Marker

    return not pin.marker or Marker(pin.marker).evaluate(environment)


def differences(expected: dict[str, str], present: dict[str, str]) -> Iterator[str]:
    """Yield each difference between a lock and an environment."""
    for name in sorted({*expected, *present}):
        wanted, found = expected.get(name), present.get(name)
        if wanted is None:
            yield f"{name} {found} is not in the lock"
        elif found is None:
            yield f"{name} {wanted} is missing"
        elif found != wanted:
            yield f"{name} is {found}, locked is {wanted}"


def changed_files(names: Iterable[str]) -> Iterator[str]:
    """Yield each file of these distributions that is not as it was in its wheel."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        # Not `distribution.files`, which leaves out what is missing from Python 3.12 on.
        for file, expected, *_ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
            path = Path(str(distribution.locate_file(file)))
            if not expected or file.startswith("../"):  # scripts, made at installation
                continue
            algorithm, _, value = expected.partition("=")
            if not path.is_file():
                yield f"{name}: {file} is missing"
            elif encoded(path, algorithm) != value:
                yield f"{name}: {file} was changed"


def encoded(path: Path, algorithm: str) -> str:
    """Return a file's hash as RECORD has it."""
    digest = hashlib.new(algorithm, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def installed() -> dict[str, str]:
    """Return name and version of each distribution of this environment."""
    from pip._vendor.packaging.utils import canonicalize_name

    return {
        canonicalize_name(each.metadata["Name"]): each.version
        for each in importlib.metadata.distributions()
    }


def verify(name: str) -> int:
    """Print how this environment differs from its lock; return an exit code."""
    present = {key: value for key, value in installed().items() if key not in NOT_LOCKED}
    found = list(differences(locked(name), present))
    for line in found:
        print(f"lock: {line}", file=sys.stderr)
    if found:
        print(
            f"lock: differs from install/locks/{name}.txt; for a new one: make clean",
            file=sys.stderr,
        )
        return EXIT_DIFFERENT
    print(f"lock: {len(present)} distributions, exactly those of install/locks/{name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
