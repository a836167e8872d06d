"""Build what a release publishes, from the commit that is checked out: `make release`.

    .venv/bin/python install/release.py --out dist

Source archive, wheel, a Debian package for each processor and Python, bill of materials, and
SHA256SUMS over all of them. Nothing is taken from the working tree but the commit, and equal
commits give equal bytes: times are the commit's. The steps around it are in docs/howto/release.md.

Source: PEP 517 (build hooks), PEP 625 (names of source archives), reproducible-builds.org on
SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "install"))

import wheels  # noqa: E402

UMASK = 0o022
"""Modes of files are part of what is published; they do not depend on who builds it."""
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def main() -> int:
    """Parse the arguments, check the commit and build everything from it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--check", action="store_true", help="only check the commit, build nothing")
    parser.add_argument(
        "--arch",
        action="append",
        choices=(*wheels.MACHINES, "none"),
        help="processor of the Debian packages, may be repeated; all by default",
    )
    parser.add_argument(
        "--python",
        action="append",
        choices=wheels.GLIBC,
        help="Python of the systems that they are for, may be repeated; all by default",
    )
    options = parser.parse_args()
    faults = [*tree_faults(), *release_faults(ROOT)]
    if faults:
        print("release: this commit is not a release:", file=sys.stderr)
        for fault in faults:
            print(f"  - {fault}", file=sys.stderr)
        return 1
    if options.check:
        print(f"release: {version(ROOT)} can be built from this commit")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    targets = [
        wheels.Target(architecture, python)
        for architecture in options.arch or wheels.MACHINES
        for python in options.python or wheels.GLIBC
        if architecture != "none"
    ]
    built = list(build(options.out.resolve(), targets))
    write_checksums(options.out, built)
    for path in built:
        print(f"{path.stat().st_size:>12,}  {path.name}")
    print(f"{'':>12}  SHA256SUMS: (cd {options.out} && sha256sum --check SHA256SUMS)")
    return 0


# -- what makes a commit a release -------------------------------------------------------


def tree_faults() -> list[str]:
    """Return what is wrong with the checkout: a release is built from a commit alone."""
    changed = git("status", "--porcelain").splitlines()
    return [f"uncommitted: {line[3:]}" for line in changed]


def release_faults(root: Path) -> list[str]:
    """Return what version, changelog and citation do not agree on."""
    faults = []
    current = version(root)
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", current):
        faults.append(
            f"{current} is a version of development: set __version__ in edgeinspect/__init__.py"
        )
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    dates = dict(re.findall(r"^## \[([^\]]+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE))
    if current not in dates:
        faults.append(f"CHANGELOG.md has no section `## [{current}] - YYYY-MM-DD`")
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if unreleased is not None and re.search(r"^- ", unreleased[1], re.MULTILINE):
        faults.append("CHANGELOG.md has entries under [Unreleased]: move them to the release")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    for key, value in (("version", current), ("date-released", dates.get(current))):
        found = re.search(rf'^{key}: "?([^"\n]*)"?$', citation, re.MULTILINE)
        if value is not None and (found is None or found[1] != value):
            faults.append(f"CITATION.cff: {key} is not {value}")
    return faults


def version(root: Path) -> str:
    """Return the version of a source tree, without importing it."""
    text = (root / "edgeinspect" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit("release: edgeinspect/__init__.py has no __version__")
    return found[1]


# -- building ----------------------------------------------------------------------------


def build(out: Path, targets: Sequence[wheels.Target]) -> Iterator[Path]:
    """Build each file into `out`; yield its path."""
    epoch = git("log", "-1", "--format=%ct").strip()
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch, "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        tree = export_commit(Path(folder) / "tree")
        yield (archive := build_source_archive(tree, out, environment))
        # From the archive, not from the tree: what users build from it is what is published.
        subprocess.run(["tar", "-xzf", str(archive), "-C", folder], check=True, umask=UMASK)
        unpacked = Path(folder) / archive.name.removesuffix(".tar.gz")
        yield run_hook("build_wheel", unpacked, out, environment)
        for target in targets:
            yield build_debian_package(tree, out, target, environment)
        bill = out / f"edgeinspect-{version(tree)}.cdx.json"
        command = [sys.executable, str(tree / "install" / "bill.py")]
        bill.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        yield bill


def export_commit(tree: Path) -> Path:
    """Write the files of HEAD into a new folder, with the commit's time."""
    content = subprocess.run(
        ["git", "archive", "--format=tar", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    tree.mkdir()
    subprocess.run(["tar", "-x", "-C", str(tree)], input=content, check=True, umask=UMASK)
    return tree


def build_source_archive(tree: Path, out: Path, environment: dict[str, str]) -> Path:
    """Build the source archive, packed again in one order with one time and no owner."""
    with tempfile.TemporaryDirectory() as folder:
        first = run_hook("build_sdist", tree, Path(folder), environment)
        packed = io.BytesIO()
        with (
            tarfile.open(first) as source,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target,
        ):
            for member in sorted(source.getmembers(), key=lambda member: member.name):
                content = source.extractfile(member) if member.isfile() else None
                target.addfile(normalised(member, int(environment["SOURCE_DATE_EPOCH"])), content)
        path = out / first.name
        path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
        return path


def normalised(member: tarfile.TarInfo, mtime: int) -> tarfile.TarInfo:
    """Return an entry without what differs from machine to machine."""
    member.mtime = mtime
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.pax_headers = {}
    return member


def run_hook(name: str, tree: Path, out: Path, environment: dict[str, str]) -> Path:
    """Call a hook of the build backend in a source tree; return the file that it wrote."""
    command = [sys.executable, "-c", BUILD, name, str(out)]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, umask=UMASK
    )
    if done.returncode != 0:
        sys.exit(f"release: {name} failed\n{done.stdout}{done.stderr}")
    return out / done.stdout.splitlines()[-1]


def build_debian_package(
    tree: Path, out: Path, target: wheels.Target, environment: dict[str, str]
) -> Path:
    """Build a Debian package from the exported tree; return its path."""
    command = [sys.executable, str(tree / "install" / "deb.py"), "--out", str(out)]
    command += ["--target-arch", target.architecture, "--target-python", target.python]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, umask=UMASK)
    if done.returncode != 0:
        sys.exit(
            f"release: the Debian package for {target.architecture} with Python {target.python} "
            "was not built"
        )
    return Path(done.stdout.splitlines()[-1])


def write_checksums(out: Path, paths: list[Path]) -> None:
    """Write SHA256SUMS in the form of sha256sum."""
    lines = [f"{sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    (out / "SHA256SUMS").write_text("".join(lines))


def git(*arguments: str) -> str:
    """Return what git prints."""
    if shutil.which("git") is None:
        sys.exit("release: git is not installed; a release is built from a commit")
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
