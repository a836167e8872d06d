"""Install edgeinspect for a line PC: `make install`, and the content of `make deb`.

    .venv/bin/python install/layout.py --destdir /

The virtual environment it creates has the same distributions as the one it runs in: the
versions that passed the tests, without a download. An environment that differs from its lock is
refused.

Source: the folders are those of hier(7) and systemd's file-hierarchy(7).
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import importlib.util
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
import licences
import lock
import wheels
from requirements import EXTRAS, TOOLS, required

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("edgeinspect", "engines", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
UNITS = "usr/lib/systemd/system"
LOCAL = "local"
"""Folder in the environment for what is added on the PC: extras, plugins."""
NEVER = ("/root/", "/home/")
"""Folders that services cannot read (ProtectHome=)."""


def main() -> int:
    """Parse the arguments and install."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--destdir", type=Path, default=Path("/"))
    parser.add_argument("--prefix", default="/opt/edgeinspect", help="of the environment")
    add_options(parser)
    options = parser.parse_args()
    environment = environment_options(options)
    return run_step(
        lambda: install_tree(
            options.destdir,
            options.prefix,
            lambda: create_environment(options.destdir, options.prefix, environment),
        )
    )


def run_step(work: Callable[[], None]) -> int:
    """Run a step; print a failure and return an exit code."""
    try:
        work()
    except subprocess.CalledProcessError as error:
        print(f"install: failed: {shlex.join(map(str, error.cmd))}", file=sys.stderr)
    except OSError as error:
        print(f"install: {error.filename}: {error.strerror}", file=sys.stderr)
    else:
        return 0
    print("install: the installation is incomplete; run it again", file=sys.stderr)
    return 1


@dataclass(frozen=True)
class EnvironmentOptions:
    """How the virtual environment is created."""

    interpreter: str
    extras: tuple[str, ...] = EXTRAS
    system_packages: bool = False
    """Include the system's packages, for a Jetson, whose TensorRT is only there."""
    link: bool = False
    """Hard-link libraries instead of copying them; for a package, whose tree is not changed."""
    unlocked: bool = False
    """Accept distributions that differ from the lock."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of both `make install` and `make deb`."""
    parser.add_argument("--python", help="interpreter for the services")
    parser.add_argument("--extra", action="append", default=[], help="one more extra, such as trt")
    parser.add_argument("--system-site-packages", action="store_true", help="for a Jetson")
    parser.add_argument(
        "--unlocked", action="store_true", help="accept an environment that differs from its lock"
    )


def environment_options(options: argparse.Namespace, *, link: bool = False) -> EnvironmentOptions:
    """Return the environment's options from the arguments."""
    return EnvironmentOptions(
        options.python or find_interpreter(),
        (*EXTRAS, *options.extra),
        options.system_site_packages,
        link,
        options.unlocked,
    )


def install_tree(destdir: Path, prefix: str, create: Callable[[], None]) -> None:
    """Install everything under `destdir`; existing files in /etc are kept."""
    create()
    install_additions(destdir / prefix.lstrip("/"), prefix)
    install_licences(destdir, prefix)
    install_units(destdir, prefix)
    install_examples(destdir)
    install_manual(destdir)
    program = destdir / "usr/bin/edgeinspect"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    program.symlink_to(f"{prefix}/bin/edgeinspect")


# -- the environment ---------------------------------------------------------------------


def find_interpreter() -> str:
    """Return an interpreter of the running version that services can read."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = os.path.realpath(sys.executable)
    for path in (f"/usr/bin/{version}", f"/usr/local/bin/{version}", own):
        if os.access(path, os.X_OK) and not os.path.realpath(path).startswith(NEVER):
            return path
    sys.exit(
        f"install: services cannot run {own}, and there is no /usr/bin/{version}. Make the "
        "environment with the system's own: rm -r .venv; make demo PYTHON=/usr/bin/python3"
    )


def create_environment(destdir: Path, prefix: str, environment: EnvironmentOptions) -> None:
    """Create a virtual environment at the prefix with edgeinspect and its requirements."""
    names = sorted(required(environment.extras))
    if not environment.unlocked:
        refuse_differences()
    with tempfile.TemporaryDirectory() as folder:  # first: a failure changes nothing
        wheel = build_wheel(Path(folder))
        fill_environment(destdir / prefix.lstrip("/"), prefix, environment, names, wheel)


def refuse_differences() -> None:
    """Exit if what is installed here is not what is locked for a line PC, byte for byte."""
    expected = {name: each for name, each in lock.locked("line").items() if name != "setuptools"}
    present = {name: importlib.metadata.version(name) for name in required()}
    found = [*lock.differences(expected, present), *lock.changed_files(sorted(present))]
    if found:
        sys.exit(
            "install: this environment differs from install/locks/line.txt:\n"
            + "".join(f"  - {line}\n" for line in found)
            + "To set it up again: make clean line. What is shipped is what the tests ran with; "
            "--unlocked accepts it as it is."
        )


def fill_environment(
    target: Path, prefix: str, environment: EnvironmentOptions, names: Iterable[str], wheel: Path
) -> None:
    """Create the environment from scratch, with these distributions and the wheel."""
    remove_environment(target)
    arguments = ["--without-pip"]
    if environment.system_packages:
        arguments.append("--system-site-packages")
    subprocess.run([environment.interpreter, "-m", "venv", *arguments, str(target)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = target / "lib" / version / "site-packages"
    for name in names:
        copy_distribution(name, site, target / "bin", link=environment.link)
    # By name: a path would be noted in the environment.
    arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    arguments += ["--find-links", str(wheel.parent), "edgeinspect"]
    variables = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    python = str(target / "bin" / "python")
    subprocess.run([python, *arguments], check=True, env=variables)
    # A linked file is the environment's own: its time stays.
    wheels.compile_modules(python, site, target, prefix, jobs=0 if environment.link else 1)
    move_scripts(target, prefix)


def remove_environment(target: Path) -> None:
    """Remove an earlier environment, but not what was added to it on this PC."""
    for path in target.iterdir() if target.exists() else ():
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        elif path.name != LOCAL:
            shutil.rmtree(path)


def copy_distribution(name: str, site: Path, scripts: Path, *, link: bool) -> None:
    """Copy the files of one installed distribution."""
    distribution = importlib.metadata.distribution(name)
    base = Path(str(distribution.locate_file(""))).resolve()
    for file in distribution.files or ():
        source = Path(os.path.normpath(base / file))
        is_compiled = "__pycache__" in file.parts  # contains paths of this environment
        # pip has launchers for Windows.
        if not source.is_file() or (is_compiled and not link) or file.suffix == ".exe":
            continue
        if source.is_relative_to(base):
            copy(source, site / source.relative_to(base), link=link)
        elif source.parent.name == "bin" and name in TOOLS:
            copy(source, scripts / source.name)
        # Other files are in share/ or are scripts of libraries.


def copy(source: Path, target: Path, *, link: bool = False) -> None:
    """Copy one file, readable by all; hard-link it if `link`."""
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
    """Build the project's wheel from a copy of the sources, without a download."""
    tree = folder / "tree"
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "state.json", ".state.lock")
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy(source, tree / name)
    arguments = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *arguments, "-w", str(folder), str(tree)], check=True)
    return next(folder.glob("*.whl"))


def move_scripts(target: Path, prefix: str) -> None:
    """Replace the build folder by the prefix in scripts."""
    for path in (target / "bin").iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        content = re.sub(rb"\A#!\S*/bin/python[0-9.]*", f"#!{prefix}/bin/python".encode(), content)
        path.write_bytes(content.replace(str(target).encode(), prefix.encode()))
    for record in target.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        text = record.read_text(encoding="utf-8")
        record.unlink()  # may be a link to the environment's own
        # Without the hash of a script, which has the path of the folder that it was made in.
        record.write_text(re.sub(r"^(\.\./\.\./\.\./bin/[^,]+),.*", r"\1,,", text, flags=re.M))
    config = target / "pyvenv.cfg"
    config.write_text(config.read_text().replace(str(target), prefix))


# -- additions ---------------------------------------------------------------------------


def install_additions(environment: Path, prefix: str) -> None:
    """Let pip of the environment add packages in a folder that no package owns.

    `local` is searched after what is shipped, so an addition replaces nothing, and pip refuses
    what would need another version. Upgrades of the package leave the folder alone.

    Source: pip's "Configuration" (the file of an environment), "Constraints Files"; site(7).
    """
    (site,) = environment.glob("lib/python*/site-packages")
    python = site.parent.name
    write(
        site / "edgeinspect_local.pth",
        f'import site, sys; site.addsitedir(sys.prefix + "/{LOCAL}/lib/{python}/site-packages")\n',
    )
    shipped = importlib.metadata.distributions(path=[str(site)])
    pins = (f"{bill.normalised(each.metadata['Name'])}=={each.version}\n" for each in shipped)
    write(environment / "share" / "edgeinspect" / "constraints.txt", "".join(sorted(pins)))
    write(
        environment / "pip.conf",
        "# What is added to the package goes into a folder of its own: docs/howto/install.md\n"
        f"[install]\nprefix = {prefix}/{LOCAL}\n"
        f"constraint = {prefix}/share/edgeinspect/constraints.txt\n"
        "no-warn-script-location = true\n",
    )


# -- units, examples, manual -------------------------------------------------------------


def install_units(destdir: Path, prefix: str) -> None:
    """Install units, users and folders."""
    folder = ROOT / "systemd"
    for path in sorted([*folder.glob("*@.*"), *folder.glob("backup/*")]):
        text = path.read_text(encoding="utf-8").replace("/opt/edgeinspect", prefix)
        write(destdir / UNITS / path.name, text)
    (destdir / UNITS / "edgeinspect-page@.service").unlink(missing_ok=True)  # an earlier name
    for kind in ("sysusers", "tmpfiles"):
        target = destdir / f"usr/lib/{kind}.d/edgeinspect.conf"
        copy(ROOT / "systemd" / f"edgeinspect.{kind}", target)
    for path in sorted((ROOT / "systemd" / "drop-ins").glob("*.conf")):
        copy(path, destdir / "usr/share/edgeinspect/drop-ins" / path.name)
    # Not in modules-load.d: it would fail at each start of a PC without a GPU.
    copy(ROOT / "systemd/gpu/nvidia-uvm.conf", destdir / "usr/share/edgeinspect/nvidia-uvm.conf")
    name = "edgeinspect-nvidia.service"
    copy(ROOT / "systemd/gpu" / name, destdir / UNITS / name)


def install_examples(destdir: Path) -> None:
    """Install images, examples, and the files of the line `example` in /etc."""
    share = destdir / "usr/share/edgeinspect"
    for path in sorted((ROOT / "examples" / "pictures").glob("*.png")):
        copy(path, share / "pictures" / path.name)
    folder = ROOT / "examples"
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("gateways/*.yaml")]):
        copy(path, share / "examples" / path.relative_to(folder))
    for path in configuration():
        target = destdir / "etc/edgeinspect" / path.name
        if not target.exists():
            copy(path, target)


def configuration() -> Iterator[Path]:
    """Yield the files for /etc/edgeinspect."""
    yield from sorted((ROOT / "examples" / "service").glob("*.yaml"))


def install_manual(destdir: Path) -> None:
    """Write the manual page and shell completion, generated from the command line."""
    from edgeinspect.cli._man_page import bash_completion, man_page

    page = destdir / "usr/share/man/man1/edgeinspect.1.gz"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes(gzip.compress(man_page().encode(), mtime=0))
    write(destdir / "usr/share/bash-completion/completions/edgeinspect", bash_completion())
    document = destdir / "usr/share/doc/edgeinspect"
    for name in ("CHANGELOG.md", "README.md"):
        copy(ROOT / name, document / name)
    install_site(document / "html")


def install_site(target: Path) -> None:
    """Build the documentation site into `target`: a line PC has no other at night.

    Its builder is in the extra `docs`, which `make deb` has and `make install` may lack.
    """
    if importlib.util.find_spec("mkdocs") is None:
        print("install: without the documentation site; with it: make docs-build, then again")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"]
        variables = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
        subprocess.run([*command, "--site-dir", folder], cwd=ROOT, env=variables, check=True)
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                copy(path, target / path.relative_to(folder))


# -- licences ----------------------------------------------------------------------------


def install_licences(destdir: Path, prefix: str) -> None:
    """Write the licences of all that the environment has, and its bill of materials."""
    document = destdir / "usr/share/doc/edgeinspect"
    (site,) = (destdir / prefix.lstrip("/") / "lib").glob("python*/site-packages")
    distributions = sorted(
        importlib.metadata.distributions(path=[str(site)]),
        key=lambda each: bill.normalised(each.metadata["Name"]),
    )
    libraries = [each for each in distributions if each.metadata["Name"] != "edgeinspect"]
    for each in libraries:
        folder = document / "licences" / each.metadata["Name"]
        for name, text in licences.texts(each):
            write(folder / name, text)
    own = (ROOT / "LICENSE").read_text(encoding="utf-8")
    write(
        document / "copyright",
        COPYRIGHT.format(
            prefix=prefix,
            own=own,
            table=licences.table(libraries),
            copyleft=licences.copyleft(libraries),
        ),
    )
    write(document / "bill-of-materials.cdx.json", bill.bill(libraries) + "\n")


COPYRIGHT = """\
edgeinspect, with the models in {prefix}/share/edgeinspect/engines, is under the Apache License
2.0, whose text ends this file. The models were trained by the project on images that it generates.

The documentation in /usr/share/doc/edgeinspect/html has the scripts and styles of Material for
MkDocs (MIT, html/assets/LICENSE.txt) with lunr (MIT), and iframe-worker (MIT, html/site).

The environment in {prefix} has these libraries, each under its own licence. The full texts are in
/usr/share/doc/edgeinspect/licences, the GPL, which the LGPL refers to, is in
/usr/share/common-licenses. The same list for programs: bill-of-materials.cdx.json.

Source you have a right to
--------------------------

These parts are under the LGPL, the MPL, the EPL, or the GPL with an exception for libraries. Each
is as its authors publish it, and a file of its own (a Python package or a shared library), which
you may replace by your version:

{copyleft}
All libraries
-------------

{table}
edgeinspect
-----------

{own}"""


def write(target: Path, text: str) -> None:
    """Write one text file, readable by all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    target.chmod(0o644)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
