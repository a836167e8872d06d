from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import DataError
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.storage.shadow_results import (
    RESULTS_SUFFIX,
    ShadowResultWriter,
    ShadowSample,
    model_key,
    read_comparisons,
)
from edgeinspect.storage.sqlite_file import SQLITE_SUFFIXES
from edgeinspect.system import log
from tests import graphs, needs

needs.library("onnxruntime")


@pytest.mark.parametrize("words", [["list"], ["verify"], ["gc"], ["show", "tiny/1"]])
def test_a_store_that_is_not_there_is_no_empty_store(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *words, "--store", str(tmp_path / "stroe")]) == 65
    assert "there is no such" in capsys.readouterr().err


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    log.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version in (1, 2, 3):
        graphs.install(tmp_path / "store", graphs.gate(), version=version)
    return tmp_path / "store"


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["models", words[0], "--store", str(root), *words[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_promote_list_and_roll_back(run: Run, root: Path) -> None:
    code, out, _ = run("promote", "tiny-gate/1", "--backend", "ort", "--why", "trial")
    assert code == 0
    assert "tiny-gate/1 is live; tiny-gate/3 was" in out
    code, out, _ = run("list", "--json")
    states = {each["model"]: each["state"] for each in json.loads(out)["models"]}
    assert states == {"tiny-gate/1": "live", "tiny-gate/2": "candidate", "tiny-gate/3": "candidate"}
    assert "was live" in run("list")[1]
    code, out, _ = run("show", "tiny-gate", "--json")
    assert json.loads(out)["manifest"]["version"] == 1
    assert json.loads(out)["history"][0]["why"] == "trial"
    assert "trial" in run("show", "tiny-gate")[1]
    assert run("rollback", "tiny-gate", "--backend", "none")[0] == 0
    assert ModelStore(root).resolve("tiny-gate").id.version == 3
    code, _, err = run("rollback", "tiny-gate")
    assert code == 65
    assert "no previous live version" in err


def test_a_version_that_fails_verification_is_not_promoted(run: Run, root: Path) -> None:
    path = root / "tiny-gate" / "2" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"x")
    code, _, err = run("promote", "tiny-gate/2", "--backend", "none")
    assert code == 65
    assert "its manifest requires" in err
    code, out, _ = run("verify", "--backend", "none")
    assert code == 65
    assert out.count("good") == 2
    assert "REFUSED" in out
    assert ModelStore(root).resolve("tiny-gate").id.version == 3


def test_a_graph_with_invalid_outputs_is_not_promoted(run: Run, root: Path) -> None:
    model = graphs.gate()
    for tensor in model.graph.initializer:
        tensor.float_data[:] = [2.0]
    graphs.install(root, model, version=4)
    code, _, err = run("promote", "tiny-gate/4", "--backend", "ort")
    assert code == 65
    assert "gives a probability of 127.5" in err


def test_promoting_again_approves_a_changed_manifest(run: Run, root: Path) -> None:
    run("promote", "tiny-gate/2", "--backend", "none")
    path = root / "tiny-gate" / "2" / "manifest.yaml"
    path.write_text(path.read_text().replace("created: '2026-11-22'", "created: '2026-11-23'"))
    code, out, _ = run("list")
    assert code == 65
    assert "was changed after it was approved" in out
    assert run("promote", "tiny-gate/2", "--backend", "ort")[0] == 0
    assert run("list")[0] == 0


def test_golden_frames_and_latency_are_written_into_the_manifest(run: Run, root: Path) -> None:
    run("promote", "tiny-gate/2", "--backend", "none")
    image_path = root.parent / "a.png"
    cv2.imwrite(str(image_path), np.full((32, 48), 90, np.uint8))
    words = ("--backend", "ort", "--make-golden", str(image_path), "--measure")
    code, out, _ = run("verify", "tiny-gate/2", *words)
    assert code == 0
    assert "1 golden frames" in out
    code, out, _ = run("show", "tiny-gate/2", "--json")
    shown = json.loads(out)["manifest"]
    assert shown["latency"][0]["backend"] == "ort"
    assert shown["latency"][0]["p99_us"] >= shown["latency"][0]["p50_us"] > 0
    assert shown["golden"]["file"] == "golden.npz"
    assert ModelStore(root).resolve("tiny-gate").golden is not None
    assert "ort " in run("list")[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("promote", "tiny-gate"), 64),
        (("promote", "tiny-gate/9"), 65),
        (("promote", "other/1"), 65),
        (("rollback", "tiny-gate/1"), 64),
        (("shadow", "tiny-gate"), 64),
        (("shadow", "tiny-gate/1", "--start", "--stop"), 64),
        (("shadow", "tiny-gate/3", "--start"), 65),
        (("verify", "--measure"), 64),
        (("verify", "tiny-gate/1", "--backend", "nonsense"), 64),
        (("show", "Ä"), 65),
        (("gc", "other"), 65),
    ],
)
def test_wrong_usage_has_its_exit_code(run: Run, words: tuple[str, ...], code: int) -> None:
    assert run(*words)[0] == code


def test_gc_lists_and_removes_only_with_yes(run: Run, root: Path) -> None:
    assert "tiny-gate/1 would be removed" in run("gc")[1]
    assert ModelStore(root).versions("tiny-gate") == (1, 2, 3)
    assert "MB freed" in run("gc", "--yes")[1]
    assert ModelStore(root).versions("tiny-gate") == (3,)


# -- shadow -------------------------------------------------------------------------------


def sample(seq: int, decision: str, *classes: str) -> ShadowSample:
    return ShadowSample(
        seq=seq, epoch=1, at_utc_ns=seq, decision=decision, classes=classes, prob=0.5
    )


def write_results(
    path: Path, root: Path, live: int, shadow: int, pairs: list[tuple[Any, Any]]
) -> None:
    ids = [ModelStore(root).resolve(f"tiny-gate/{version}").id for version in (live, shadow)]
    keys = [model_key(each.name, each.version, each.sha256) for each in ids]
    results_path = ShadowResultWriter(path, *keys)
    for seq, (mine, its) in enumerate(pairs, start=1):
        results_path.add(sample(seq, *mine), sample(seq, *its), 1000 + seq)
    results_path.close()


PASS = ("PASS",)
PIT = ("REJECT", "pit")
BOTH = ("REJECT", "crack", "pit")


def test_a_comparison_counts_pairs(root: Path) -> None:
    path = root.parent / f"x{RESULTS_SUFFIX}"
    pairs = [(PASS, PASS)] * 10 + [(PIT, PIT), (PIT, PASS), (PASS, PIT), (BOTH, PIT)]
    write_results(path, root, 3, 2, pairs)
    (one,) = read_comparisons([path, root / "absent"], "tiny-gate/2")
    assert (one.frames, one.both_reject, one.only_live_rejects, one.only_shadow_rejects) == (
        14,
        2,
        1,
        1,
    )
    pit, crack = one.classes["pit"], one.classes["crack"]
    assert (pit.both, pit.only_live, pit.only_shadow) == (2, 1, 1)
    assert (crack.both, crack.only_live, crack.only_shadow) == (0, 1, 0)
    assert one.seqs == [14, 13, 12]
    assert one.differing == 3
    assert one.disagreements == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE opinions SET at_utc_ns = 'x'",
        "UPDATE opinions SET shadow_us = 'x' WHERE id = 2",
        "UPDATE opinions SET classes = x'ff'",
        "UPDATE opinions SET shadow = CAST(x'ff' AS TEXT)",
        "DROP TABLE opinions; CREATE VIEW opinions AS WITH RECURSIVE n (id) AS "
        "(SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT * FROM n",
    ],
)
def test_results_with_invalid_values_are_rejected(root: Path, damage: str) -> None:
    path = root.parent / f"x{RESULTS_SUFFIX}"
    write_results(path, root, 3, 2, [(PASS, PIT)] * 3)
    with closing(sqlite3.connect(path)) as base:
        base.executescript(damage)
    with pytest.raises(DataError, match="shadow results cannot be read"):
        read_comparisons([path], "tiny-gate/2")


@pytest.mark.parametrize("suffix", SQLITE_SUFFIXES)
def test_a_pipe_in_place_of_a_results_file_is_rejected(root: Path, suffix: str) -> None:
    path = root.parent / f"x{RESULTS_SUFFIX}"
    write_results(path, root, 3, 2, [(PASS, PIT)])
    pipe = path.with_name(path.name + suffix)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    for act in (
        lambda: read_comparisons([path], "tiny-gate/2"),
        lambda: ShadowResultWriter(path, "a", "b"),
    ):
        with pytest.raises(DataError, match="is no regular file"):
            act()


def test_promotion_requires_frames_in_shadow(run: Run, root: Path) -> None:
    results_path = root.parent / f"x{RESULTS_SUFFIX}"
    words = (
        "promote",
        "tiny-gate/2",
        "--backend",
        "none",
        "--results",
        str(results_path),
        "--min-shadow-frames",
        "500",
    )
    code, _, err = run(*words)
    assert code == 65
    assert "there is no such file" in err
    ShadowResultWriter(results_path, "a", "b").close()
    code, _, err = run(*words)
    assert code == 65
    assert "was compared with tiny-gate/3 on 0 frames in shadow; 500 are required" in err
    write_results(results_path, root, 1, 2, [(PASS, PASS)] * 600)
    assert run(*words)[0] == 65, "frames beside another live version do not count"
    write_results(results_path, root, 3, 2, [(PASS, PASS)] * 480 + [(PASS, PIT)] * 20)
    code, _, err = run(*words)
    assert code == 65
    assert "decided differently on 20 of 500 frames" in err
    assert run(*words, "--max-disagreement", "0.07")[0] == 0
    assert ModelStore(root).resolve("tiny-gate").id.version == 2


def test_shadow_is_started_shown_and_stopped(run: Run, root: Path) -> None:
    assert run("shadow", "tiny-gate/2", "--start")[0] == 0
    assert "shadow" in run("list")[1]
    results_path = root.parent / f"x{RESULTS_SUFFIX}"
    ShadowResultWriter(results_path, "a", "b").close()
    assert (
        "has no results in shadow" in run("shadow", "tiny-gate", "--results", str(results_path))[1]
    )
    write_results(results_path, root, 3, 2, [(PASS, PASS)] * 50 + [(PIT, PASS)])
    out = run("shadow", "tiny-gate", "--results", str(results_path))[1]
    assert "51 frames" in out
    assert "pit" in out
    assert "different frames: 51" in out
    captured = json.loads(run("shadow", "tiny-gate", "--results", str(results_path), "--json")[1])
    assert captured["comparisons"][0]["classes"]["pit"]["only_live"] == 1
    results_path.write_bytes(b"no database at all, and long enough to be read as one" * 100)
    assert run("shadow", "tiny-gate", "--results", str(results_path))[0] == 65
    assert run("shadow", "tiny-gate", "--stop")[0] == 0
    assert ModelStore(root).model_versions("tiny-gate").read_state().shadow is None
