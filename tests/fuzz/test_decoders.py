"""Every decoder of foreign bytes refuses what it cannot read, with the one error it promises.

The long form is benchmarks/fuzz.py: the same targets, for as long as it is told.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests import needs
from tests.fuzz import files, labels, messages
from tests.fuzz.target import Target, attack

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 120
FOREIGN = re.compile(
    r"msgspec\.(json|msgpack)\.(decode|Decoder)\b|\bjson\.loads?\(|yaml\.\w*load(_all)?\(|np\.load\("
)
OWN_WORDS = {
    "edgeinspect/system/decoding.py",  # the one place
    "edgeinspect/backends/_tensorrt/builder.py",  # what TensorRT says of its own engine
    "edgeinspect/learning/onnx_graphs/manifest.py",  # metadata that this process has just written
    "edgeinspect/storage/model_store/golden_frames.py",  # a manifest that has been checked before
    "edgeinspect/learning/conversion/fp16_version.py",
}


def check(target: Target, folder: Path) -> None:
    for seed in range(3):
        attack(target, seed, INPUTS // 3, folder)


@pytest.mark.parametrize("target", messages.TARGETS, ids=lambda target: target.name)
def test_messages(target: Target, tmp_path: Path) -> None:
    check(target, tmp_path)


@pytest.mark.parametrize("target", files.TARGETS, ids=lambda target: target.name)
def test_files(target: Target, tmp_path: Path) -> None:
    check(target, tmp_path)


@pytest.mark.parametrize("target", labels.TARGETS, ids=lambda target: target.name)
def test_labels(target: Target, tmp_path: Path) -> None:
    check(target, tmp_path)


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("stored", ["starlette"]),
        ("certificates", ["cryptography", "asyncua"]),
        ("protocols", ["starlette"]),
        ("recordings", ["mcap"]),
    ],
)
def test_what_needs_an_extra(module: str, packages: list[str], tmp_path: Path) -> None:
    for package in packages:
        needs.library(package)
    for target in importlib.import_module(f"tests.fuzz.{module}").TARGETS:
        for data in target.samples:
            target.decode(data, tmp_path)
        check(target, tmp_path)


@pytest.mark.parametrize(
    "target", [*messages.TARGETS, *files.TARGETS, *labels.TARGETS], ids=lambda t: t.name
)
def test_the_samples_themselves_are_taken(target: Target, tmp_path: Path) -> None:
    """A target that refuses everything would prove nothing."""
    for data in target.samples:
        target.decode(data, tmp_path)


def test_nothing_decodes_beside_them() -> None:
    """A decoder that is called directly raises RecursionError for a message of 4 kB."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "edgeinspect").rglob("*.py")
        if FOREIGN.search(path.read_text(encoding="utf-8"))
    }
    assert found <= OWN_WORDS
