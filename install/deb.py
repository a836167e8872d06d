"""Build a Debian package of the tree that `layout.py` creates: `make deb`.

    .venv/bin/python install/deb.py --out dist

Only dpkg-deb is needed. Configuration files are conffiles: dpkg keeps local changes.

Source: Debian policy, chapters 5 to 7 and appendix E; dpkg-deb(1), deb-control(5).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import layout  # noqa: E402

from edgeinspect import __version__  # noqa: E402

SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def main() -> int:
    """Parse the arguments, build the package and print its path."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--compress", default="zstd", help="as dpkg-deb's -Z")
    parser.add_argument("--fast", action="store_true", help="for tests: link, do not compress")
    layout.add_options(parser)
    options = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        sys.exit("deb: dpkg-deb is not installed; it is part of Debian and Ubuntu")
    return layout.run_step(lambda: make_package(options))


def make_package(options: argparse.Namespace) -> None:
    """Create the tree beside the result, pack it and print the package's path."""
    environment = layout.environment_options(options, link=options.fast)
    options.out.mkdir(parents=True, exist_ok=True)
    # Beside the result: libraries can be hard-linked on the same file system.
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir(mode=0o755)
        layout.install_tree(tree, "/opt/edgeinspect", environment)
        compress = "none" if options.fast else options.compress
        print(build(tree, options.out, environment.interpreter, compress))


def build(tree: Path, out: Path, interpreter: str, compress: str) -> Path:
    """Pack a tree; return the path of the package."""
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(describe(tree, interpreter), encoding="utf-8")
    (control / "conffiles").write_text("".join(f"{path}\n" for path in conffiles(tree)))
    for name in SCRIPTS:
        target = control / name
        shutil.copy(ROOT / "install" / "debian" / name, target)
        target.chmod(0o755)
    target = out / f"edgeinspect_{version()}_{architecture()}.deb"
    command = ["dpkg-deb", "--root-owner-group", f"-Z{compress}", "--build", str(tree), str(target)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


def version() -> str:
    """Return the version as Debian sorts it: a development version is before its release."""
    return __version__.replace(".dev", "~dev").replace("rc", "~rc")


def architecture() -> str:
    """Return the architecture of this machine: the package contains compiled libraries."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def describe(tree: Path, interpreter: str) -> str:
    """Return the control file."""
    name = os.path.basename(os.path.realpath(interpreter))
    python = f"{name}, " if interpreter.startswith("/usr/bin/") else ""
    size_kib = sum(path.lstat().st_size for path in tree.rglob("*")) // 1024
    return "\n".join(
        (
            "Package: edgeinspect",
            f"Version: {version()}",
            f"Architecture: {architecture()}",
            "Maintainer: The edgeinspect authors <edgeinspect@localhost>",
            f"Installed-Size: {size_kib}",
            f"Depends: {python}systemd (>= 249), libc6",
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
