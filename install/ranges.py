"""Tests both ends of the ranges in setup.cfg, each in an environment of its own.

    python3 install/ranges.py floors     the lowest versions that they allow: `make floors`
    python3 install/ranges.py newest     the newest of everything: `make newest`

Resolves with uv, installs into build/floors or build/newest, runs the unit and contract tests and
prints a report, also to build/NAME.md. Exit code 0: they pass; 1: a test fails; 2: an environment
cannot be made. torch stays pinned; without it (TORCH=no) what needs it skips.

For `floors` test tools have their locked versions: their floors matter to nobody, and they would
raise those of the product.

Source: https://docs.astral.sh/uv/concepts/resolution/ (lowest-direct).
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import lock
from requirements import BUILD, ENVIRONMENTS, EXTRAS, ROOT, extra_requirements, own_requirements

TESTS = ("tests/unit", "tests/contract")
PRODUCT = (*EXTRAS, "genicam", "parquet", "train")
"""Extras whose floors are tested."""
EXIT_BROKEN, EXIT_NOT_MADE = 1, 2


@dataclass(frozen=True)
class Run:
    """What pytest did."""

    code: int
    summary: str
    failed: list[tuple[str, str]]
    """Name of each test that failed, with the first line of its message."""


def main() -> int:
    """Resolve, install, test and report."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("which", choices=("floors", "newest"))
    parser.add_argument("--python", default=sys.executable, help="interpreter, as 3.10 or a path")
    parser.add_argument("--torch", default="no", help="what pip gets for torch; `no` leaves it out")
    parser.add_argument("--resolve", action="store_true", help="only print the versions")
    parser.add_argument("--tests", default=" ".join(TESTS), help="words for pytest")
    options = parser.parse_args()
    folder = ROOT / "build" / options.which
    folder.mkdir(parents=True, exist_ok=True)
    try:
        versions = resolve(options.which, options.python, folder)
        if options.resolve:
            print("\n".join(f"{name}=={version}" for name, version in versions.items()))
            return 0
        python = make_environment(folder, options.python, options.torch)
    except subprocess.CalledProcessError as error:
        print(f"{options.which}: this failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return EXIT_NOT_MADE
    run = run_tests(python, folder, options.which, shlex.split(options.tests))
    text = report(options.which, python, versions, run)
    (folder.with_suffix(".md")).write_text(text, encoding="utf-8")
    print(text)
    return EXIT_BROKEN if run.code else 0


# -- the environment ---------------------------------------------------------------------


def resolve(which: str, python: str, folder: Path) -> dict[str, str]:
    """Write the versions to `folder`; return them by name."""
    command = [lock.uv(), "pip", "compile", "--quiet", "--no-build", "--python", python]
    command += ["--no-python-downloads", "--no-header", "--no-annotate", "--upgrade"]
    command += ["--no-emit-package", "torch", "-o", str(folder / "versions.txt"), "-"]
    if which == "floors":
        command += ["--resolution", "lowest-direct"]
        wanted = [*own_requirements(PRODUCT), *extra_requirements([BUILD]), *locked_tools()]
    else:
        wanted = [*own_requirements(ENVIRONMENTS["test"]), *extra_requirements([BUILD])]
    subprocess.run(command, input="\n".join(wanted), text=True, check=True, cwd=ROOT)
    lines = (folder / "versions.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def locked_tools() -> Iterator[str]:
    """Yield the test tools, at their locked versions."""
    product = {name_of(line) for line in own_requirements(PRODUCT)}
    for line in extra_requirements(["test"]):
        if name_of(line) not in product:
            for pin in lock.read("test"):
                if pin.name == name_of(line):
                    marker = f" ; {pin.marker}" if pin.marker else ""
                    extra = re.search(r"\[.*?\]", line)
                    yield f"{pin.name}{extra[0] if extra else ''}=={pin.version}{marker}"


def name_of(requirement: str) -> str:
    """Return the name in a requirement, as locks have it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def make_environment(folder: Path, python: str, torch: str) -> Path:
    """Create the environment; return its interpreter."""
    venv = folder / "venv"
    uv = [lock.uv(), "--quiet", "--no-python-downloads"]
    subprocess.run([*uv, "venv", "--clear", "--python", python, str(venv)], check=True)
    target = ["--python", str(venv / "bin" / "python")]
    versions = str(folder / "versions.txt")
    install = [*uv, "pip", "install", *target]
    subprocess.run([*install, "--no-build", "--requirement", versions], check=True)
    subprocess.run(
        [*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True
    )
    if torch != "no":
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *torch.split()], check=True)
    return venv / "bin" / "python"


# -- the tests ---------------------------------------------------------------------------


def run_tests(python: Path, folder: Path, which: str, words: list[str]) -> Run:
    """Run the unit and contract tests."""
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", f"--junit-xml={results}", *words]
    if which == "floors":  # an old library warns about a newer Python
        command += ["-W", "default"]
    environment = {key: value for key, value in os.environ.items() if key != "EDGEINSPECT_REQUIRE"}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if not results.exists():
        return Run(code or EXIT_NOT_MADE, f"pytest ended with {code} and no results", [])
    suite = ElementTree.parse(results).getroot().find("testsuite")
    assert suite is not None
    failed = [
        (f"{case.get('classname')}.{case.get('name')}", first_line(problem.get("message")))
        for case in suite.iter("testcase")
        for problem in (*case.findall("failure"), *case.findall("error"))
    ]
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "skipped", "failures", "errors")}
    return Run(code, ", ".join(f"{number} {key}" for key, number in counts.items()), failed)


def first_line(message: str | None) -> str:
    """Return the beginning of a message."""
    return (message or "").splitlines()[0][:160] if message else ""


def report(which: str, python: Path, versions: dict[str, str], run: Run) -> str:
    """Return the report, as Markdown."""
    environment = ROOT / "build" / which
    version = subprocess.run([str(python), "-V"], capture_output=True, text=True).stdout.split()[1]
    lines = [f"# {which}: Python {version}", ""]
    if which == "floors":
        lines += ["| requirement | tested with |", "|---|---|"]
        for line in sorted(set(own_requirements(PRODUCT)), key=str.lower):
            lines.append(f"| `{line}` | {versions.get(name_of(line), 'not installed')} |")
    else:
        markers = {
            "python_version": ".".join(version.split(".")[:2]),
            "python_full_version": version,
        }
        changes = list(changed(lock.locked("test", markers), versions))
        lines += ["Against the lock:", "", *(changes or ["nothing changed"])]
    lines += ["", f"Tests: {run.summary}."]
    if run.failed:
        lines += ["", "Broken:", "", *(f"- {name}: {text}" for name, text in run.failed)]
    lines += ["", f"Versions: {environment.relative_to(ROOT)}/versions.txt"]
    return "\n".join(lines) + "\n"


def changed(locked: dict[str, str], newest: dict[str, str]) -> Iterator[str]:
    """Yield a line for each version that differs."""
    for name in sorted({*locked, *newest}):
        before, after = locked.get(name), newest.get(name)
        if before != after:
            yield f"- {name}: {before or 'not there'} → {after or 'not needed'}"


if __name__ == "__main__":
    sys.exit(main())
