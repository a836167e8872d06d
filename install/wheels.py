"""Fills an environment for another processor or Python from the locked wheels.

Nothing of the target runs here: pip chooses and unpacks wheels for it, and the environment is
written by hand. Only bytecode needs an interpreter of the target's version, on any processor.

Source: PEP 425, 600 (tags of wheels); PEP 405 (pyvenv.cfg).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import lock
from requirements import TOOLS

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Processor in wheels and in ELF files, by Debian's name."""
GLIBC = {"3.10": 35, "3.11": 36, "3.12": 39, "3.13": 41}
"""Minor version of glibc 2 on the system whose python3 this is: Ubuntu 22.04 (JetPack 6), Debian
12, Ubuntu 24.04 (JetPack 7), Debian 13."""


@dataclass(frozen=True)
class Target:
    """The system that a package is for."""

    architecture: str
    """As Debian calls it."""
    python: str
    """Version of its python3, as 3.11."""

    @property
    def interpreter(self) -> str:
        """Path of its Python."""
        return f"/usr/bin/python{self.python}"

    @property
    def markers(self) -> dict[str, str]:
        """Values of the markers of requirements."""
        return {
            "python_version": self.python,
            # The system's python3 gets corrections; no lock distinguishes them here.
            "python_full_version": f"{self.python}.20",
            "platform_machine": MACHINES[self.architecture],
        }

    @property
    def platforms(self) -> list[str]:
        """Tags of wheels that run there."""
        machine = MACHINES[self.architecture]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC[self.python], 4, -1)]
        return [*tags, f"manylinux2014_{machine}", f"linux_{machine}"]


def fill_environment(folder: Path, prefix: str, target: Target, wheel: Path) -> None:
    """Create the environment with the locked distributions and the project's wheel."""
    compiler = find_compiler(target.python)
    site = folder / "lib" / f"python{target.python}" / "site-packages"
    site.mkdir(parents=True)
    install_wheels(site, target, wheel)
    write_environment(folder, target)
    for path in sorted((site / "bin").iterdir()):
        # Not pip3.11 and the like: it has the version of the Python that runs here.
        if path.name in ("edgeinspect", *TOOLS):
            shutil.move(path, folder / "bin" / path.name)
    shutil.rmtree(site / "bin")
    shutil.move(site / "share" / "edgeinspect", folder / "share" / "edgeinspect")
    shutil.rmtree(site / "share")
    for path in site.rglob("*.exe"):  # pip has launchers for Windows
        path.unlink()
    for record in site.glob("*.dist-info/RECORD"):  # relative to pip's folder, now to ours
        text = record.read_text(encoding="utf-8")
        record.write_text(re.sub(r"^\.\./\.\./(?=bin/|share/)", "../../../", text, flags=re.M))
    compile_modules(compiler, site, folder, prefix)


def install_wheels(site: Path, target: Target, wheel: Path) -> None:
    """Unpack the locked wheels and the project's own into a folder."""
    pins = [pin for pin in line_pins() if lock.applies(pin, target.markers)]
    pins.append(lock.Pin("edgeinspect", wheel.name.split("-")[1], "", [f"sha256:{digest(wheel)}"]))
    with tempfile.TemporaryDirectory() as temporary:
        # Without markers: pip evaluates those for its own interpreter.
        listed = Path(temporary) / "requirements.txt"
        listed.write_text("".join(f"{requirement(pin)}\n" for pin in pins))
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        command += ["--target", str(site), "--require-hashes", "--only-binary", ":all:"]
        command += ["--no-deps", "--no-compile", "--find-links", str(wheel.parent)]
        command += ["--implementation", "cp", "--python-version", target.python]
        command += [word for tag in target.platforms for word in ("--platform", tag)]
        subprocess.run([*command, "-r", str(listed)], check=True)


def line_pins() -> list[lock.Pin]:
    """Return the versions of a line PC's environment, and of pip."""
    tools = [pin for pin in lock.read("build") if pin.name in TOOLS]
    return [*tools, *lock.read("line")]


def requirement(pin: lock.Pin) -> str:
    """Return a requirement with its hashes, without its marker."""
    return " ".join((f"{pin.name}=={pin.version}", *(f"--hash={each}" for each in pin.hashes)))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_environment(folder: Path, target: Target) -> None:
    """Write what `python -m venv` would, for an interpreter that is not here."""
    for name in ("bin", "share"):
        (folder / name).mkdir()
    (folder / "bin" / "python").symlink_to(target.interpreter)
    for name in ("python3", f"python{target.python}"):
        (folder / "bin" / name).symlink_to("python")
    (folder / "lib64").symlink_to("lib")
    config = "home = /usr/bin\ninclude-system-site-packages = false\n"
    (folder / "pyvenv.cfg").write_text(f"{config}version = {target.python}\n")


def find_compiler(python: str) -> str:
    """Return an interpreter of this version, for bytecode."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = sys.executable if python == own else shutil.which(f"python{python}")
    # A version manager's placeholder is found too, and starts nothing.
    if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
        sys.exit(f"deb: bytecode for Python {python} needs a python{python} here, of any processor")
    return found


def compile_modules(python: str, site: Path, folder: Path, prefix: str, *, jobs: int = 1) -> None:
    """Compile every module.

    With one job, one seed, the modules' times set and no random addresses, equal modules give
    equal bytes: up to Python 3.11 a set with None is in the order of an address.
    """
    # Services cannot write here, so modules not compiled now would be compiled at every start.
    command = [python, "-m", "compileall", "-q", f"-j{jobs}", "--invalidation-mode", "timestamp"]
    command += ["-s", str(folder), "-p", prefix, str(site)]
    fixed_addresses = ["setarch", "--addr-no-randomize"]
    if jobs == 1:
        set_times(folder)
        # Not allowed in every container.
        if shutil.which("setarch") and not subprocess.run([*fixed_addresses, "true"]).returncode:
            command = [*fixed_addresses, *command]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "0"})


def set_times(folder: Path) -> None:
    """Give every file the time in SOURCE_DATE_EPOCH, if that is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        for path in folder.rglob("*"):
            os.utime(path, (int(epoch), int(epoch)), follow_symlinks=False)
