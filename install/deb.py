"""Build a Debian package of the tree that `layout.py` creates: `make deb`.

    .venv/bin/python install/deb.py --out dist
    .venv/bin/python install/deb.py --target-arch arm64 --target-python 3.10    # JetPack 6

Only dpkg-deb is needed. Configuration files are conffiles: dpkg keeps local changes. A package for
another processor or Python is made of the locked wheels, which pip downloads. Two builds of one
commit give the same bytes: every time in them is the commit's, or SOURCE_DATE_EPOCH.

Source: Debian policy, chapters 5 to 7 and appendix E; dpkg-deb(1), deb-control(5); the ELF
specification (e_machine); https://reproducible-builds.org/docs/source-date-epoch/.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import layout  # noqa: E402
import wheels  # noqa: E402

from edgeinspect import __version__  # noqa: E402

PREFIX = "/opt/edgeinspect"
ELF_MACHINES = {"amd64": 62, "arm64": 183}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def main() -> int:
    """Parse the arguments, build the package and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--compress", default="zstd", help="as dpkg-deb's -Z")
    parser.add_argument("--fast", action="store_true", help="for tests: link, do not compress")
    parser.add_argument("--target-arch", choices=wheels.MACHINES, help="this PC's by default")
    parser.add_argument(
        "--target-python",
        choices=wheels.GLIBC,
        help="the system's python3: 3.10 Ubuntu 22.04 and JetPack 6, 3.11 Debian 12, 3.12 Ubuntu "
        "24.04 and JetPack 7, 3.13 Debian 13; the running one by default",
    )
    layout.add_options(parser)
    options = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        sys.exit("deb: dpkg-deb is not installed; it is part of Debian and Ubuntu")
    os.umask(0o022)
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time())
    return layout.run_step(lambda: make_package(options))


def make_package(options: argparse.Namespace) -> None:
    """Create the tree beside the result, pack it and print the package's path."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = wheels.Target(options.target_arch or architecture(), options.target_python or own)
    options.out.mkdir(parents=True, exist_ok=True)
    # Beside the result: libraries can be hard-linked on the same file system.
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir(mode=0o755)
        if options.target_arch is None and options.target_python is None:
            environment = layout.environment_options(options, link=options.fast)
            interpreter = environment.interpreter
            layout.install_tree(
                tree, PREFIX, lambda: layout.create_environment(tree, PREFIX, environment)
            )
        else:
            refuse_options(options)
            interpreter = target.interpreter
            layout.install_tree(tree, PREFIX, lambda: create_foreign_environment(tree, target))
        check_machine(tree, target.architecture)
        named = f"_python{options.target_python}" if options.target_python else ""
        path = options.out / f"edgeinspect_{version()}{named}_{target.architecture}.deb"
        if not options.fast:  # files of the checkout have the time at which they were written
            wheels.set_times(tree)
        build(tree, path, interpreter, target, "none" if options.fast else options.compress)
        print(path)


def create_foreign_environment(tree: Path, target: wheels.Target) -> None:
    """Create the environment for another processor or Python, from the locked wheels."""
    environment = tree / PREFIX.lstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        wheel = layout.build_wheel(Path(folder))
        wheels.fill_environment(environment, PREFIX, target, wheel)
    layout.move_scripts(environment, PREFIX)


def refuse_options(options: argparse.Namespace) -> None:
    """Exit on options that copy something of this PC into a package for a named target."""
    for name in ("python", "extra", "system_site_packages", "unlocked", "fast"):
        if getattr(options, name):
            sys.exit(
                f"deb: --{name.replace('_', '-')} is for a package of this PC's own Python; for a "
                "target it is made of the locked wheels alone"
            )


def check_machine(tree: Path, architecture: str) -> None:
    """Exit if a compiled file is for another processor."""
    for path in sorted(tree.rglob("*")):
        if not path.is_symlink() and path.is_file():
            with path.open("rb") as file:
                head = file.read(20)
            foreign = head.startswith(b"MZ") or (
                head.startswith(b"\x7fELF")
                and int.from_bytes(head[18:20], "little") != ELF_MACHINES[architecture]
            )
            if foreign:
                sys.exit(f"deb: {path.relative_to(tree)} is not compiled for {architecture}")


def commit_time() -> str:
    """Return the time of the commit that is checked out, in seconds; else the present time."""
    command = ["git", "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return str(int(time.time()))
    return done.stdout.strip() or str(int(time.time()))


def build(tree: Path, path: Path, interpreter: str, target: wheels.Target, compress: str) -> None:
    """Pack a tree."""
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(describe(tree, interpreter, target), encoding="utf-8")
    (control / "conffiles").write_text("".join(f"{path}\n" for path in conffiles(tree)))
    for name in SCRIPTS:
        script = control / name
        shutil.copy(ROOT / "install" / "debian" / name, script)
        script.chmod(0o755)
    # More threads would make the compressed bytes depend on the number of processors.
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compress}", "--threads-max=1"]
    command += ["--build", str(tree), str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def version() -> str:
    """Return the version as Debian sorts it: a development version is before its release."""
    return __version__.replace(".dev", "~dev").replace("rc", "~rc")


def architecture() -> str:
    """Return the architecture of this machine: the package contains compiled libraries."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def libc(tree: Path, target: wheels.Target) -> str:
    """Return the oldest glibc that every wheel in the tree runs with."""
    pattern = re.compile(r"^Tag: \S+-manylinux_2_(\d+)_", re.MULTILINE)
    needed = [5]
    for path in tree.glob("opt/*/lib/python*/site-packages/*.dist-info/WHEEL"):
        tags = pattern.findall(path.read_text(encoding="utf-8"))
        needed += [min(map(int, tags))] if tags else []
    if max(needed) > wheels.GLIBC[target.python]:
        sys.exit(
            f"deb: a wheel needs glibc 2.{max(needed)}, and the system with this Python has "
            f"2.{wheels.GLIBC[target.python]}"
        )
    return f"2.{max(needed)}"


def describe(tree: Path, interpreter: str, target: wheels.Target) -> str:
    """Return the control file."""
    # The package's Python is this one or a link to it; a foreign one cannot be followed here.
    name = os.path.basename(os.path.realpath(interpreter))
    python = f"{name}, " if interpreter.startswith("/usr/bin/") else ""
    # Per file as policy has it; the size of a folder depends on the file system.
    sizes = (path.lstat().st_size for path in tree.rglob("*") if not path.is_dir())
    size_kib = sum(-(-size // 1024) for size in sizes)
    return "\n".join(
        (
            "Package: edgeinspect",
            f"Version: {version()}",
            f"Architecture: {target.architecture}",
            "Maintainer: The edgeinspect authors <edgeinspect@localhost>",
            f"Installed-Size: {size_kib}",
            f"Depends: {python}systemd (>= 249), libc6 (>= {libc(tree, target)})",
            "Recommends: bash-completion, man-db",
            "Section: science",
            "Priority: optional",
            "Description: industrial surface inspection: frames in, verdicts out",
            " A daemon on the line PC: every frame of a camera gets exactly one verdict, in",
            " time, and PLC gateways carry it to the line. With its own Python environment in",
            " /opt/edgeinspect, systemd units, and an example line in /etc/edgeinspect.",
            "",
        )
    )


def conffiles(tree: Path) -> Iterator[str]:
    """Yield the files that an upgrade must not overwrite."""
    for path in sorted((tree / "etc").rglob("*")):
        if path.is_file():
            yield f"/{path.relative_to(tree)}"


if __name__ == "__main__":
    sys.exit(main())
