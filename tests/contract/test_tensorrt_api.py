"""Every TensorRT name that the sources use exists in 10.3 and in the latest 11.

Needs neither TensorRT nor a GPU: the real bindings are loaded over stub libraries. The sources are
checked in two ways: names by `ast`; arguments, keywords and results by mypy on stubs generated
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
from tests import needs, nvidia

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    ROOT / "edgeinspect" / "backends" / "trt.py",
    *sorted((ROOT / "edgeinspect" / "backends" / "_tensorrt").glob("*.py")),
    ROOT / "edgeinspect" / "learning" / "conversion" / "plans.py",
]
VERSIONS = {"10.3": "tensorrt-cu12-bindings==10.3.0", "11": "tensorrt-cu13-bindings>=11,<12"}
NOT_API = "unreachable,redundant-expr,override,unused-ignore,no-any-return"
"""Error codes of mypy that do not concern the existence of a call: a stub's results are never
None, and its arguments are wider than those of a subclass."""

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
    report: dict[str, Any]

    def lacks(self, name: str) -> bool:
        """Return True if `Class.member`, `Class.Nested.member` or `name` is not in the bindings."""
        owner, _, member = name.rpartition(".")
        members = self.report["members"]
        return name not in members if not owner else member not in (members.get(owner) or ())


@pytest.fixture(scope="module", params=sorted(VERSIONS))
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    packages = nvidia.unpack_wheels(VERSIONS[request.param])
    major = int(request.param.partition(".")[0])
    libraries = nvidia.stub_tensorrt(tmp_path_factory.mktemp("libraries"), major)
    report = nvidia.run_json(DUMP, paths=(packages,), libraries=libraries)
    return Bindings(major, packages, libraries, report)


def chain(node: ast.expr) -> str:
    """Return `a.b.c` for a chain of attributes; empty for other nodes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = chain(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def declared(scope: ast.AST) -> dict[str, str]:
    """Map variables to the TensorRT class of their annotation."""
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
    """Yield every name of TensorRT that a source uses: `Class`, `Class.member`."""
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


def test_used_names_are_found_in_the_sources() -> None:
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
    missing = sorted(name for name in needed() if bindings.lacks(name))
    assert not missing, f"TensorRT {bindings.report['version']} has no {missing}"


def test_a_removed_name_is_detected(bindings: Bindings) -> None:
    source = (
        "def f(builder: trt.Builder) -> None:\n"
        "    if builder.platform_has_fast_int8:\n"
        "        trt.BuilderFlag.FP16\n"
    )
    missing = {name for name in used_names(source) if bindings.lacks(name)}
    expected = {"Builder.platform_has_fast_int8", "BuilderFlag.FP16"}
    assert missing == (expected if bindings.major >= 11 else set())


def test_legacy_names_exist_in_10_and_not_in_11(bindings: Bindings) -> None:
    names = {f"{owner}.{name}" for owner, members in LEGACY_NAMES.items() for name in members}
    missing = {name for name in names if bindings.lacks(name)}
    assert missing == (names if bindings.major >= 11 else set())


def test_without_tensorrt_the_builder_raises(bindings: Bindings) -> None:
    assert "nullptr" in bindings.report["builder"]


def test_mypy_on_stubs_of_the_bindings(bindings: Bindings, tmp_path: Path) -> None:
    needs.library("mypy")
    stubs = make_stubs(bindings, tmp_path)
    assert not mypy_errors(stubs, *[path for path in SOURCES if path.is_file()])
    # The check fails for a method that 11 removed, and for an unknown keyword.
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import tensorrt as trt\n"
        "def f(builder: trt.Builder, config: trt.IBuilderConfig) -> None:\n"
        "    builder.platform_has_fast_int8\n"
        "    config.set_timing_cache(config.create_timing_cache(b''), overwrite=True)\n"
        "    trt.BuilderFlag.FP16\n"
    )
    report = mypy_errors(stubs, wrong)
    assert '"overwrite"' in report
    assert ("platform_has_fast_int8" in report) == (bindings.major >= 11)
    assert ('"FP16"' in report) == (bindings.major >= 11)


def mypy_errors(stubs: Path, *paths: Path) -> str:
    """Return mypy's errors in the sources with TensorRT's types."""
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
    """Generate a package `tensorrt` of type stubs with pybind11-stubgen."""
    needs.library("pybind11_stubgen")
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
    # `trt.bool` is a data type and would shadow Python's in every signature.
    text = re.sub(r"((?:->|[:|]) )bool\b", r"\1builtins.bool", text)
    lines = text.replace("import typing\n", "import builtins\nimport typing\n", 1).splitlines()
    package = folder / "stubs" / "tensorrt"
    package.mkdir(parents=True)
    stub = "\n".join(["# mypy: ignore-errors", *parseable(lines), "__version__: str", ""])
    (package / "__init__.pyi").write_text(stub)
    return folder / "stubs"


def parseable(lines: list[str]) -> list[str]:
    """Replace signatures that are not valid Python, such as a parameter named `in`."""
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
