"""Lay edgeinspect out as it stands on a line PC: `make install`, and the inside of `make deb`.

    .venv/bin/python install/layout.py --destdir /

The virtual environment it makes holds the very distributions of the one it runs in, so it has
the versions that passed the tests, and nothing is downloaded.

Source: the folders are those of hier(7) and systemd's file-hierarchy(7).
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bill
from requirements import EXTRAS, TOOLS, required

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("edgeinspect", "engines", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
UNITS = "usr/lib/systemd/system"
NEVER = ("/root/", "/home/")
"""Where no service may look (ProtectHome=)."""


def main() -> int:
    """Read the arguments and lay out."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--destdir", type=Path, default=Path("/"))
    parser.add_argument("--prefix", default="/opt/edgeinspect", help="of the environment")
    add_options(parser)
    wanted = parser.parse_args()
    return told(lambda: lay_out(wanted.destdir, wanted.prefix, choose(wanted)))


def told(work: Callable[[], None]) -> int:
    """Do it; what fails is said in two lines, with the exit code of a failure."""
    try:
        work()
    except subprocess.CalledProcessError as error:
        print(f"install: failed: {shlex.join(map(str, error.cmd))}", file=sys.stderr)
    except OSError as error:
        print(f"install: {error.filename}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    print("install: what was laid out is not complete; run it again", file=sys.stderr)
    return 1


@dataclass(frozen=True)
class Choice:
    """How the environment is made."""

    interpreter: str
    extras: tuple[str, ...] = EXTRAS
    system_packages: bool = False
    """True if it sees the system's packages: a Jetson's TensorRT is there and nowhere else."""
    link: bool = False
    """Link libraries instead of copying them; for a package, whose copy nobody changes."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `make install` and `make deb` both take."""
    parser.add_argument("--python", help="interpreter that the services run")
    parser.add_argument("--extra", action="append", default=[], help="one more extra, as trt")
    parser.add_argument("--system-site-packages", action="store_true", help="for a Jetson")


def choose(wanted: argparse.Namespace, *, link: bool = False) -> Choice:
    """What the arguments say."""
    return Choice(
        wanted.python or find_interpreter(),
        (*EXTRAS, *wanted.extra),
        wanted.system_site_packages,
        link,
    )


def lay_out(destdir: Path, prefix: str, choice: Choice) -> None:
    """Put everything under `destdir`; files of /etc that are there already are kept."""
    make_environment(destdir, prefix, choice)
    put_units(destdir, prefix)
    put_examples(destdir)
    put_manual(destdir)
    program = destdir / "usr/bin/edgeinspect"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    program.symlink_to(f"{prefix}/bin/edgeinspect")


# -- the environment ---------------------------------------------------------------------


def find_interpreter() -> str:
    """An interpreter of this one's version that a service can reach."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = os.path.realpath(sys.executable)
    for path in (f"/usr/bin/{version}", f"/usr/local/bin/{version}", own):
        if os.access(path, os.X_OK) and not os.path.realpath(path).startswith(NEVER):
            return path
    sys.exit(
        f"install: services cannot run {own}, and there is no /usr/bin/{version}. Make the "
        "environment with the system's own: rm -r .venv; make demo PYTHON=/usr/bin/python3"
    )


def make_environment(destdir: Path, prefix: str, choice: Choice) -> None:
    """A virtual environment at the prefix with edgeinspect and what it requires."""
    names = sorted(required(choice.extras))
    with tempfile.TemporaryDirectory() as folder:  # first: if it fails, nothing is touched
        wheel = build_wheel(Path(folder))
        fill_environment(destdir / prefix.lstrip("/"), prefix, choice, names, wheel)


def fill_environment(
    target: Path, prefix: str, choice: Choice, names: Iterable[str], wheel: Path
) -> None:
    """Make it anew, with the distributions of these names and a wheel of ours."""
    if target.exists():
        shutil.rmtree(target)
    words = ["--without-pip"]
    if choice.system_packages:
        words.append("--system-site-packages")
    subprocess.run([choice.interpreter, "-m", "venv", *words, str(target)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = target / "lib" / version / "site-packages"
    for name in names:
        copy_distribution(name, site, target / "bin", link=choice.link)
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    environment = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    python = str(target / "bin" / "python")
    subprocess.run([python, *words, str(wheel)], check=True, env=environment)
    # No service may write here, so what is not compiled now is compiled at every start.
    words = ["-m", "compileall", "-q", "-j0", "-s", str(target), "-p", prefix, str(site)]
    subprocess.run([python, *words], check=True)
    move_scripts(target, prefix)


def copy_distribution(name: str, site: Path, scripts: Path, *, link: bool) -> None:
    """Copy one installed distribution, file by file as its record lists them."""
    found = importlib.metadata.distribution(name)
    base = Path(str(found.locate_file(""))).resolve()
    for file in found.files or ():
        source = Path(os.path.normpath(base / file))
        compiled = "__pycache__" in file.parts  # with the paths of this environment inside
        if not source.is_file() or (compiled and not link):
            continue
        if source.is_relative_to(base):
            copy(source, site / source.relative_to(base), link=link)
        elif source.parent.name == "bin" and name in TOOLS:
            copy(source, scripts / source.name)
        # The rest lies in share/ or is another library's program.


def copy(source: Path, target: Path, *, link: bool = False) -> None:
    """One file, readable by all; linked only where nobody changes the copy (a package)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, target)
        except OSError:  # another file system
            link = False
    if not link:
        shutil.copy2(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def build_wheel(folder: Path) -> Path:
    """Our own wheel, built from a copy of the sources with the tools at hand."""
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "state.json", ".state.lock")
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy(source, tree / name)
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *words, "-w", str(folder), str(tree)], check=True)
    return next(folder.glob("*.whl"))


def move_scripts(target: Path, prefix: str) -> None:
    """Let scripts and activation name the prefix, not the folder they were made in."""
    for path in (target / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        words = path.read_bytes()
        words = re.sub(rb"\A#!\S*/bin/python[0-9.]*", f"#!{prefix}/bin/python".encode(), words)
        path.write_bytes(words.replace(str(target).encode(), prefix.encode()))
    config = target / "pyvenv.cfg"
    config.write_text(config.read_text().replace(str(target), prefix))


# -- the rest ----------------------------------------------------------------------------


def put_units(destdir: Path, prefix: str) -> None:
    """Units, user and folders."""
    for path in sorted((ROOT / "systemd").glob("*@.*")):
        text = path.read_text(encoding="utf-8").replace("/opt/edgeinspect", prefix)
        write(destdir / UNITS / path.name, text)
    (destdir / UNITS / "edgeinspect-page@.service").unlink(missing_ok=True)  # an earlier name
    for kind in ("sysusers", "tmpfiles"):
        target = destdir / f"usr/lib/{kind}.d/edgeinspect.conf"
        copy(ROOT / "systemd" / f"edgeinspect.{kind}", target)
    for path in sorted((ROOT / "systemd" / "drop-ins").glob("*.conf")):
        copy(path, destdir / "usr/share/edgeinspect/drop-ins" / path.name)
    # Not in modules-load.d: a PC without a GPU would fail there at each start.
    copy(ROOT / "systemd/gpu/nvidia-uvm.conf", destdir / "usr/share/edgeinspect/nvidia-uvm.conf")
    name = "edgeinspect-nvidia.service"
    copy(ROOT / "systemd/gpu" / name, destdir / UNITS / name)


def put_examples(destdir: Path) -> None:
    """Pictures, examples, and in /etc the files of the line `example`."""
    share = destdir / "usr/share/edgeinspect"
    for path in sorted((ROOT / "examples" / "pictures").glob("*.png")):
        copy(path, share / "pictures" / path.name)
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        copy(path, share / "examples" / path.name)
    for path in configuration():
        target = destdir / "etc/edgeinspect" / path.name
        if not target.exists():
            copy(path, target)


def configuration() -> Iterator[Path]:
    """What becomes /etc/edgeinspect/*.yaml."""
    yield from sorted((ROOT / "examples" / "service").glob("*.yaml"))


def put_manual(destdir: Path) -> None:
    """The manual page and the shell's completion, both from the command line itself."""
    from edgeinspect.cli._man_page import bash_completion, man_page

    page = destdir / "usr/share/man/man1/edgeinspect.1.gz"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes(gzip.compress(man_page().encode(), mtime=0))
    write(destdir / "usr/share/bash-completion/completions/edgeinspect", bash_completion())
    document = destdir / "usr/share/doc/edgeinspect"
    for name in ("CHANGELOG.md", "README.md"):
        copy(ROOT / name, document / name)
    put_licences(document)


def put_licences(document: Path) -> None:
    """Our licence, those of the libraries that are shipped with it, and the bill of materials."""
    names = sorted(required())
    own = (ROOT / "LICENSE").read_text(encoding="utf-8")
    head = (
        "edgeinspect is under the Apache License 2.0, whose text follows. Its environment in\n"
        "/opt/edgeinspect holds these libraries, each under a licence of its own, whose text\n"
        "stands in its .dist-info folder there:\n\n"
    )
    beside = (
        "\n\nInside them: OpenCV's wheel has FFmpeg (LGPL-2.1) and OpenSSL, pyzmq's has libzmq\n"
        "(MPL-2.0), each as a shared library.\n\n"
    )
    write(document / "copyright", head + bill.licence_table(names) + beside + own)
    write(document / "bill-of-materials.cdx.json", bill.bill(names) + "\n")


def write(target: Path, text: str) -> None:
    """One text file, readable by all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(0o644)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
