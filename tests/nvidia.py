"""Loads NVIDIA's Python packages without its hardware, over stub libraries.

Wheels are unpacked once into a cache in the environment. The bindings are loaded in a separate
process over libraries that define only the entry points.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests import needs

CACHE = Path(sys.prefix) / "cache" / "edgeinspect-tests"
"""Kept between runs; `make clean` removes it with the environment."""

ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""The symbols that the bindings need to be loaded."""


def unpack_wheels(*requirements: str) -> Path:
    """Return a folder with the unpacked packages, without their dependencies.

    Skips the test if they are not available (no network, or not for this Python).
    """
    tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
    folder = CACHE / re.sub(r"[^a-z0-9.]+", "-", "-".join((*requirements, tag)).lower())
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    unpacked = Path(tempfile.mkdtemp(dir=CACHE))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--only-binary=:all:",
            "--target",
            str(unpacked),
            *requirements,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(unpacked)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        pytest.skip(f"{', '.join(requirements)} are not available: {' '.join(errors)[:200]}")
    try:
        unpacked.rename(folder)
    except OSError:  # created by another run
        shutil.rmtree(unpacked)
    return folder


def compile_library(source: str, target: Path, soname: str) -> Path:
    """Compile a shared library from C; skip without a compiler."""
    needs.program("cc")
    subprocess.run(
        ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", str(target)],
        input=source,
        text=True,
        check=True,
    )
    return target


def stub_tensorrt(folder: Path, major: int) -> Path:
    """Compile TensorRT's three libraries with entry points that return null."""
    folder.mkdir(parents=True, exist_ok=True)
    source = "\n".join(f"void *{name}(void) {{ return 0; }}" for name in ENTRY_POINTS)
    for stem in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        soname = f"lib{stem}.so.{major}"
        compile_library(source, folder / soname, soname)
    return folder


def run_python(code: str, *arguments: str, paths: tuple[Path, ...], libraries: Path) -> str:
    """Return the output of a program that runs with other packages and libraries.

    Fails the test with its stderr if the program fails.
    """
    environment = dict(os.environ)
    environment["LD_LIBRARY_PATH"] = str(libraries)
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(f"ended with {done.returncode}\n{done.stderr[-3000:]}", pytrace=False)
    return done.stdout


def run_json(code: str, *arguments: str, paths: tuple[Path, ...], libraries: Path) -> Any:
    """Return the last line of `run_python`, parsed as JSON."""
    output = run_python(code, *arguments, paths=paths, libraries=libraries)
    return json.loads(output.strip().splitlines()[-1])
