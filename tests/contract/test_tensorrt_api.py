"""What our code calls exists in TensorRT 10.3 and in the newest 11, read from the real bindings.

No TensorRT and no GPU are needed: the bindings are loaded over stub libraries. What is
checked is read from our own sources, so that it cannot go stale, in two ways: the names by
`ast`, and everything else (arguments, keywords, results) by mypy on stubs that are made
from the bindings.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeinspect.backends._tensorrt.builder import LEGACY_NAMES
from tests import nvidia

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    ROOT / "edgeinspect" / "backends" / "trt.py",
    *sorted((ROOT / "edgeinspect" / "backends" / "_tensorrt").glob("*.py")),
    ROOT / "edgeinspect" / "learning" / "build" / "plans.py",
]
VERSIONS = {"10.3": "tensorrt-cu12-bindings==10.3.0", "11": "tensorrt-cu13-bindings>=11,<12"}
NOT_API = "unreachable,redundant-expr,override,unused-ignore,no-any-return"
"""mypy's complaints that say nothing about whether a call exists: a stub's results are
never None, and its arguments are wider than what a subclass is given."""

DUMP = """
import json, inspect, tensorrt_bindings as trt
members = {}
for name in dir(trt):
    value = getattr(trt, name)
    members[name] = sorted(dir(value)) if inspect.isclass(value) else None
nested = {f"ILogger.{name}": sorted(dir(getattr(trt.ILogger, name))) for name in ("Severity",)}
try:
    trt.Builder(trt.Logger())
    builder = "made"
except TypeError as error:
    builder = str(error)
print(json.dumps({"version": trt.__version__, "members": members | nested, "builder": builder}))
"""


@dataclass(frozen=True)
class Bindings:
    major: int
    packages: Path
    libraries: Path
    told: dict[str, Any]

    def lacks(self, name: str) -> bool:
        """Whether `Class.member`, `Class.Nested.member` or `name` is not in the bindings."""
        owner, _, member = name.rpartition(".")
        members = self.told["members"]
        return name not in members if not owner else member not in (members.get(owner) or ())


@pytest.fixture(scope="module", params=sorted(VERSIONS))
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    packages = nvidia.unpack_wheels(VERSIONS[request.param])
    major = int(request.param.partition(".")[0])
    libraries = nvidia.stub_tensorrt(tmp_path_factory.mktemp("libraries"), major)
    told = nvidia.run_json(DUMP, paths=(packages,), libraries=libraries)
    return Bindings(major, packages, libraries, told)


def chain(node: ast.expr) -> str:
    """`a.b.c` for a chain of attributes, else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = chain(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def declared(scope: ast.AST) -> dict[str, str]:
    """Variables of a function to the TensorRT class that they are annotated with."""
    found = {}
    for node in ast.walk(scope):
        target: str | None = None
        note: ast.expr | None = None
        if isinstance(node, ast.arg):
            target, note = node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign):
            target, note = chain(node.target), node.annotation
        match = re.search(r"\btrt\.(\w+)", ast.unparse(note)) if note is not None else None
        if target and match:
            found[target] = match[1]
    return found


def used_names(source: str) -> Iterator[str]:
    """Every name of TensorRT that a source uses: `Class`, `Class.member`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        name = chain(node) if isinstance(node, ast.Attribute) else ""
        if name.startswith("trt."):
            yield name.removeprefix("trt.")
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.ClassDef):
            continue
        classes = declared(scope)
        for node in ast.walk(scope):
            if isinstance(node, ast.Attribute) and chain(node.value) in classes:
                yield f"{classes[chain(node.value)]}.{node.attr}"


def needed() -> set[str]:
    names = {name for path in SOURCES if path.is_file() for name in used_names(path.read_text())}
    return {name for name in names if not name.startswith("__")}


def test_the_list_is_read_from_our_sources() -> None:
    names = needed()
    assert len(names) >= 60, sorted(names)
    assert names >= {
        "Builder",
        "Builder.build_serialized_network",
        "Builder.max_threads",
        "IBuilderConfig.set_timing_cache",
        "IExecutionContext.execute_async_v3",
        "MemoryPoolType.WORKSPACE",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "ILogger.Severity.ERROR",
        "EngineInspector.get_engine_information",
        "OnnxParser.parse",
        "ICudaEngine.get_tensor_mode",
    }


def test_every_name_exists(bindings: Bindings) -> None:
    lacking = sorted(name for name in needed() if bindings.lacks(name))
    assert not lacking, f"TensorRT {bindings.told['version']} has no {lacking}"


def test_a_name_that_is_gone_is_seen(bindings: Bindings) -> None:
    source = (
        "def f(builder: trt.Builder) -> None:\n"
        "    if builder.platform_has_fast_int8:\n"
        "        trt.BuilderFlag.FP16\n"
    )
    gone = {name for name in used_names(source) if bindings.lacks(name)}
    expected = {"Builder.platform_has_fast_int8", "BuilderFlag.FP16"}
    assert gone == (expected if bindings.major >= 11 else set())


def test_legacy_names_are_in_10_and_gone_in_11(bindings: Bindings) -> None:
    names = {f"{owner}.{name}" for owner, members in LEGACY_NAMES.items() for name in members}
    lacking = {name for name in names if bindings.lacks(name)}
    assert lacking == (names if bindings.major >= 11 else set())


def test_without_tensorrt_the_builder_raises_and_does_not_crash(bindings: Bindings) -> None:
    assert "nullptr" in bindings.told["builder"]


def test_mypy_on_stubs_made_from_the_bindings(bindings: Bindings, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: extra dev")
    stubs = make_stubs(bindings, tmp_path)
    assert not complaints(stubs, *[path for path in SOURCES if path.is_file()])
    # And it can fail: a method that 11 no longer has, and a keyword that none ever had.
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import tensorrt as trt\n"
        "def f(builder: trt.Builder, config: trt.IBuilderConfig) -> None:\n"
        "    builder.platform_has_fast_int8\n"
        "    config.set_timing_cache(config.create_timing_cache(b''), overwrite=True)\n"
        "    trt.BuilderFlag.FP16\n"
    )
    told = complaints(stubs, wrong)
    assert '"overwrite"' in told
    assert ("platform_has_fast_int8" in told) == (bindings.major >= 11)
    assert ('"FP16"' in told) == (bindings.major >= 11)


def complaints(stubs: Path, *paths: Path) -> str:
    """What mypy has against our sources with TensorRT's types in reach."""
    codes = [f"--disable-error-code={code}" for code in NOT_API.split(",")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-warn-unreachable",
            "--no-error-summary",
            "--no-warn-unused-ignores",
            f"--cache-dir={stubs / 'cache'}",
            *codes,
            *map(str, paths),
        ],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(stubs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "syntax" not in done.stdout, done.stdout
    return done.stdout + done.stderr


def make_stubs(bindings: Bindings, folder: Path) -> Path:
    """A package `tensorrt` of type stubs, written by pybind11-stubgen from the bindings."""
    pytest.importorskip("pybind11_stubgen", reason="pybind11-stubgen is not installed: extra test")
    nvidia.run_python(
        "import sys; from pybind11_stubgen import main; main(sys.argv[1:])",
        "--ignore-all-errors",
        "-o",
        str(folder / "made"),
        "tensorrt_bindings.tensorrt",
        paths=(bindings.packages,),
        libraries=bindings.libraries,
    )
    text = (folder / "made" / "tensorrt_bindings" / "tensorrt.pyi").read_text()
    text = re.sub(r"\btensorrt_bindings(\.tensorrt)?\b", "tensorrt", text)
    # `trt.bool` is a data type, and would take the place of Python's in every signature.
    text = re.sub(r"((?:->|[:|]) )bool\b", r"\1builtins.bool", text)
    lines = text.replace("import typing\n", "import builtins\nimport typing\n", 1).splitlines()
    package = folder / "stubs" / "tensorrt"
    package.mkdir(parents=True)
    whole = "\n".join(["# mypy: ignore-errors", *parseable(lines), "__version__: str", ""])
    (package / "__init__.pyi").write_text(whole)
    return folder / "stubs"


def parseable(lines: list[str]) -> list[str]:
    """Without the few signatures that are no Python, as one with a parameter named `in`."""
    for _ in range(50):
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            at = (error.lineno or 1) - 1
            match = re.match(r"(\s*)def (\w+)\(", lines[at])
            assert match, lines[at]
            anything = "(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"
            lines[at] = f"{match[1]}def {match[2]}{anything}"
        else:
            return lines
    raise AssertionError("too many signatures that are no Python")
