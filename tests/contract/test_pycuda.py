"""pycuda compiles against CUDA's headers and a stub of libcuda, and has every name that is used.

CUDA's headers come as wheels; no toolkit, no driver and no GPU are needed. The compiled
package is cached beside the wheels, once per environment. A CUDA toolkit or driver on the machine
is used neither by the compiler nor by the loader.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests import needs, nvidia

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "edgeinspect" / "backends" / "_tensorrt" / "cuda.py"
PYCUDA = "pycuda>=2024.1"
HEADERS = (
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-cuda-profiler-api==13.0.*",
)
COMPILE_S = 400
NO_DEVICE = "no CUDA-capable device is detected"

# The error of a machine without a GPU. A function that returns a text must set the pointer, or it
# stays uninitialised.
STUB = f"""
int cuGetErrorString(int code, const char **text) {{ *text = "{NO_DEVICE}"; return 0; }}
int cuGetErrorName(int code, const char **text) {{ *text = "CUDA_ERROR_NO_DEVICE"; return 0; }}
"""
DEFINED = frozenset({"cuGetErrorString", "cuGetErrorName"})
FOREIGN = (
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_ROOT",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "LIBRARY_PATH",
    "LD_LIBRARY_PATH",
    "LDFLAGS",
)
"""Environment variables that would make the compiler use another CUDA."""

# The setup of pycuda with its files compiled in parallel, which would take a minute otherwise.
SETUP = """
import os, runpy, sys
from concurrent.futures import ThreadPoolExecutor
import setuptools
from distutils.ccompiler import CCompiler

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0,
            extra_preargs=None, extra_postargs=None, depends=None):
    macros, objects, extra, pp_opts, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    flags = self._get_cc_args(pp_opts, debug, extra_preargs)
    def one(name):
        source, suffix = build[name]
        self._compile(name, source, suffix, flags, extra, pp_opts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, build))
    return objects

CCompiler.compile = compile
sys.path.insert(0, os.getcwd())
sys.argv = ["setup.py", *sys.argv[1:]]
runpy.run_path("setup.py", run_name="__main__")
"""

NAMES = """
import json, sys, types
import pycuda.driver as driver
def has(name):
    value = driver
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
try:
    driver.init()
    init = "none"
except driver.Error as error:
    init = str(error)
print(json.dumps({"lacking": [n for n in sys.argv[1:] if not has(n)], "init": init,
                  "stream": hasattr(driver.Stream, "handle"),
                  "pointer": hasattr(driver.PagelockedHostAllocation, "get_device_pointer"),
                  "device": [n for n in ("name", "compute_capability", "make_context",
                                         "get_attribute") if not hasattr(driver.Device, n)]}))
"""


def undefined(library: Path) -> list[str]:
    """Functions of libcuda that a compiled module asks for."""
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r"\b(cu[A-Z]\w+)", symbols)


@pytest.fixture(scope="module")
def pycuda() -> Path:
    """A folder with pycuda in it; compiled if it is not there yet."""
    tag = f"pycuda-py{sys.version_info[0]}{sys.version_info[1]}"
    folder = nvidia.CACHE / tag
    if not folder.is_dir():
        headers = nvidia.unpack_wheels(*HEADERS) / "nvidia" / "cu13"
        if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
            pytest.skip("Python's headers are not installed: apt-get install python3-dev")
        for program in ("c++", "nm"):
            needs.program(program)
        with tempfile.TemporaryDirectory(dir=nvidia.CACHE) as work:
            made = compile_pycuda(Path(work), headers)
            made.rename(folder)
    return folder


def compile_pycuda(work: Path, headers: Path) -> Path:
    sdist = work / "sdist"
    fetched = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "pycuda",
            "--no-build-isolation",
            "--dest",
            str(sdist),
            PYCUDA,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"{PYCUDA} cannot be had: {fetched.stderr[-200:]}")
    with tarfile.open(next(sdist.glob("*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    source = next(path for path in work.glob("pycuda-*") if path.is_dir())
    root = work / "cuda"
    (root / "lib" / "stubs").mkdir(parents=True)
    (root / "include").symlink_to(headers / "include")
    stub = root / "lib" / "stubs" / "libcuda.so"
    nvidia.compile_library("int cuInit(unsigned f) { return 100; }", stub, "libcuda.so.1")
    (source / "siteconf.py").write_text(f"CUDA_ROOT = {str(root)!r}\nCUDA_ENABLE_CURAND = False\n")
    built = subprocess.run(
        [sys.executable, "-c", SETUP, "--quiet", "build"],
        cwd=source,
        env=compiler_environment(work),
        capture_output=True,
        text=True,
        check=False,
        timeout=COMPILE_S,
    )
    if built.returncode:
        errors = [line for line in built.stderr.splitlines() if "error" in line.lower()]
        pytest.fail(f"pycuda does not compile: {errors[-5:]}", pytrace=False)
    made = work / "made"
    shutil.copytree(next((source / "build").glob("lib*")), made)
    return made


def compiler_environment(work: Path) -> dict[str, str]:
    """Ours without what leads to another CUDA; a person's own pycuda settings lie in HOME."""
    remaining = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return remaining | {"CFLAGS": "-O0 -w", "CXXFLAGS": "-O0 -w", "HOME": str(work)}


@pytest.fixture
def libcuda(pycuda: Path, tmp_path: Path) -> Path:
    """A folder with a libcuda.so.1 that defines all that the compiled pycuda asks for."""
    needs.program("nm")
    (library,) = pycuda.rglob("_driver*.so")
    names = sorted(set(undefined(library)) - DEFINED)
    calls = "\n".join(f"int {name}(void) {{ return 100; }}" for name in names)
    nvidia.compile_library(STUB + calls, tmp_path / "libcuda.so.1", "libcuda.so.1")
    return tmp_path


def used_names() -> set[str]:
    """Return the names that `cuda.py` uses from pycuda's driver module."""
    found: set[str] = set()
    tree = ast.parse(SOURCE.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            match = re.fullmatch(r"(?:self\._driver|driver)\.([\w.]+)", ast.unparse(node))
            if match:
                found.add(match[1])
    # `flags` is `driver.ctx_flags`.
    flags = re.findall(r"\bflags\.([A-Z_]+)", SOURCE.read_text())
    return found | {f"ctx_flags.{name}" for name in flags}


def test_used_names_are_found_in_the_source() -> None:
    assert used_names() >= {
        "init",
        "Device.count",
        "Error",
        "Context.pop",
        "Context.synchronize",
        "Stream",
        "mem_alloc",
        "pagelocked_empty",
        "memcpy_htod_async",
        "memcpy_dtoh_async",
        "host_alloc_flags.DEVICEMAP",
        "device_attribute.INTEGRATED",
        "ctx_flags.SCHED_SPIN",
    }


@pytest.mark.timeout(COMPILE_S + 60)
def test_compiled_pycuda_has_every_used_name(pycuda: Path, libcuda: Path) -> None:
    packages = (pycuda, *map(Path, filter(None, sys.path)))
    report = nvidia.run_json(NAMES, *sorted(used_names()), paths=packages, libraries=libcuda)
    assert report["lacking"] == []
    assert report["stream"]
    assert report["pointer"]
    assert report["device"] == []
    assert NO_DEVICE in report["init"]  # raised by pycuda with the text of the stub
