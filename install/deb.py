"""Make a Debian package of what `layout.py` lays out: `make deb`.

    .venv/bin/python install/deb.py --out dist

Only dpkg-deb is needed. Configuration files are conffiles: dpkg keeps what was changed.

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
    """Read the arguments and make the package; prints its path."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--compress", default="zstd", help="as dpkg-deb's -Z")
    parser.add_argument("--fast", action="store_true", help="for tests: link, do not compress")
    layout.add_options(parser)
    wanted = parser.parse_args()
    if shutil.which("dpkg-deb") is None:
        sys.exit("deb: dpkg-deb is not here; this works on Debian and Ubuntu")
    return layout.told(lambda: make(wanted))


def make(wanted: argparse.Namespace) -> None:
    """Lay out beside the result and pack it; prints the package's path."""
    choice = layout.choose(wanted, link=wanted.fast)
    wanted.out.mkdir(parents=True, exist_ok=True)
    # Beside the result: libraries can be linked where it is the same file system.
    with tempfile.TemporaryDirectory(dir=wanted.out) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir(mode=0o755)
        layout.lay_out(tree, "/opt/edgeinspect", choice)
        compress = "none" if wanted.fast else wanted.compress
        print(build(tree, wanted.out, choice.interpreter, compress))


def build(tree: Path, out: Path, interpreter: str, compress: str) -> Path:
    """The package of a laid-out tree."""
    control = tree / "DEBIAN"
    control.mkdir(mode=0o755)
    (control / "control").write_text(describe(tree, interpreter), encoding="utf-8")
    (control / "conffiles").write_text("".join(f"{path}\n" for path in conffiles(tree)))
    for name in SCRIPTS:
        target = control / name
        shutil.copy(ROOT / "install" / "debian" / name, target)
        target.chmod(0o755)
    target = out / f"edgeinspect_{version()}_{architecture()}.deb"
    words = ["dpkg-deb", "--root-owner-group", f"-Z{compress}", "--build", str(tree), str(target)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return target


def version() -> str:
    """As Debian sorts them: a development version comes before its release."""
    return __version__.replace(".dev", "~dev").replace("rc", "~rc")


def architecture() -> str:
    """The machine's: the libraries inside are compiled."""
    words = ["dpkg", "--print-architecture"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def describe(tree: Path, interpreter: str) -> str:
    """The control file."""
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
    """Files that an upgrade must not overwrite."""
    for path in sorted((tree / "etc").rglob("*")):
        if path.is_file():
            yield f"/{path.relative_to(tree)}"


if __name__ == "__main__":
    sys.exit(main())
