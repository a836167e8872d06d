"""NVIDIA's packages without NVIDIA's hardware: wheels kept beside the tests, stub libraries.

Wheels are unpacked once into a folder of the environment; the bindings are then loaded, in
a process of their own, over libraries that define nothing but the entry points.
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
"""All that the bindings want of TensorRT's libraries to be loaded."""


def unpack_wheels(*requirements: str) -> Path:
    """A folder with packages unpacked in it, without their dependencies.

    Skips the test if they cannot be had: no network, or none for this Python.
    """
    tag = f"py{sys.version_info[0]}{sys.version_info[1]}"
    folder = CACHE / re.sub(r"[^a-z0-9.]+", "-", "-".join((*requirements, tag)).lower())
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=CACHE))
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
            str(made),
            *requirements,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(made)
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        pytest.skip(f"{', '.join(requirements)} cannot be had: {' '.join(said)[:200]}")
    try:
        made.rename(folder)
    except OSError:  # another run was quicker
        shutil.rmtree(made)
    return folder


def compile_library(source: str, target: Path, soname: str) -> Path:
    """A shared library from C; skips without a compiler."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc)")
    subprocess.run(
        ["cc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-x", "c", "-", "-o", str(target)],
        input=source,
        text=True,
        check=True,
    )
    return target


def stub_tensorrt(folder: Path, major: int) -> Path:
    """TensorRT's three libraries, whose entry points give null."""
    folder.mkdir(parents=True, exist_ok=True)
    source = "\n".join(f"void *{name}(void) {{ return 0; }}" for name in ENTRY_POINTS)
    for stem in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        soname = f"lib{stem}.so.{major}"
        compile_library(source, folder / soname, soname)
    return folder


def run_python(code: str, *arguments: str, paths: tuple[Path, ...], libraries: Path) -> str:
    """What a program prints in a process that sees other packages and libraries.

    Fails the test with what it wrote to stderr if it does not end well.
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
    """As `run_python`, the last line read as JSON."""
    said = run_python(code, *arguments, paths=paths, libraries=libraries)
    return json.loads(said.strip().splitlines()[-1])
