"""The commands from their arguments to their files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import write_dataset
from tests.unit.learning.reporting.html_checker import check_document

needs.library("onnxruntime")

REAL = Path(__file__).parents[5] / "real"
"""Models trained on real images, beside the checkout and not part of it."""


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    limits = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}
    gate = {"suspect": 0.45, "reject": 0.99, "degraded": 0.49}
    graphs.install(root, graphs.gate(), thresholds=gate)
    graphs.install(root, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=limits)
    monkeypatch.setenv("EDGEINSPECT_STORE", str(root))
    return root


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mixed", ["good"] * 8 + ["dark"] * 6 + ["bright"] * 6)


def test_evaluate_writes_html_and_json(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html, metrics = tmp_path / "new" / "out.html", tmp_path / "out.json"
    code = main(
        [
            "evaluate",
            "tiny-seg",
            "--gate",
            "tiny-gate",
            "--data",
            str(mixed),
            "--report",
            str(html),
            "--json-file",
            str(metrics),
            "--cost-escape",
            "50",
            "--cost-overkill",
            "1",
        ]
    )
    assert code == 0
    evaluation = json.loads(metrics.read_text())
    assert evaluation["schema"] == "edgeinspect.evaluation/1"
    assert evaluation["models"][0]["sha256"] != evaluation["models"][1]["sha256"]
    # Dark images are below the gate's `suspect`: on the line they pass.
    assert evaluation["decisions"]["escape"]["hits"] == 6
    assert evaluation["overlap"]["miou"] == 1.0
    report = check_document(html.read_text())
    assert report.images == 3 * 6
    assert "escape rate" in capsys.readouterr().out


def test_image_names_are_escaped_in_the_report(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", ["good", "dark", "dark"])
    (folder / "images" / "p001.png").rename(folder / "images" / "<b>&.png")
    (folder / "masks" / "p001.png").rename(folder / "masks" / "<b>&.png")
    index = folder / "index.csv"
    index.write_text(index.read_text().replace("p001.png", "<b>&.png"))
    html = tmp_path / "out.html"
    main(
        [
            "evaluate",
            "tiny-seg",
            "--gate",
            "tiny-gate",
            "--data",
            str(folder),
            "--report",
            str(html),
        ]
    )
    assert "&lt;b&gt;&amp;.png" in html.read_text()
    check_document(html.read_text())


def test_compare_writes_html_and_json(mixed: Path, tmp_path: Path) -> None:
    html, metrics = tmp_path / "out.html", tmp_path / "out.json"
    code = main(
        [
            "compare",
            "tiny-seg",
            "tiny-seg",
            "--data",
            str(mixed),
            "--report",
            str(html),
            "--json-file",
            str(metrics),
            "--rounds",
            "100",
            "--gate-b",
            "tiny-gate",
        ]
    )
    assert code == 0
    found = json.loads(metrics.read_text())
    assert found["schema"] == "edgeinspect.comparison/1"
    assert (found["escapes"]["only_a"], found["escapes"]["only_b"]) == (0, 6)
    assert len(found["differing"]) == 6
    assert check_document(html.read_text()).images == 4 * 6


def test_the_same_call_gives_the_same_bytes(mixed: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        file = tmp_path / f"{name}.json"
        main(["evaluate", "tiny-gate", "--data", str(mixed), "--json-file", str(file)])
        texts.append(file.read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["evaluate", "--data", "SET"], 64, "no model is given"),
        (["evaluate", "unknown", "--data", "SET"], 65, "there is no model unknown"),
        (["evaluate", "./nowhere", "--data", "SET"], 65, "there is no such file"),
        (["evaluate", "tiny-gate", "--data", "SET/none"], 65, "there is no such file"),
        (["evaluate", "tiny-gate", "--data", "SET", "--split", "train"], 65, "no image in split"),
        (["evaluate", "tiny-gate", "--data", "SET", "--split", "tets"], 64, "no split 'tets'"),
        (["evaluate", "tiny-gate", "--data", "SET", "--backend", "x"], 64, "no backend"),
        (["evaluate", "tiny-gate", "--data", "SET", "--cost-escape", "5"], 64, "go together"),
        (["evaluate", "tiny-gate", "--data", "SET", "--gate", "tiny-gate"], 64, "--gate goes"),
        (["evaluate", "tiny-gate", "--data", "SET", "--line", "SET/no.yaml"], 78, "no.yaml"),
        (["evaluate", "tiny-gate", "--data", "SET", "--json-file", "/proc/x.json"], 73, "written"),
        (["evaluate", "tiny-gate", "--data", "strip:1"], 64, "strip:SEED:COUNT"),
        (["compare", "tiny-gate", "tiny-seg", "--data", "SET"], 64, "cannot be compared"),
    ],
)
def test_wrong_input_ends_with_one_message_and_its_code(
    arguments: list[str], code: int, message: str, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("SET", str(mixed)) for argument in arguments]) == code
    error = capsys.readouterr().err.strip().splitlines()
    assert sum(line.startswith("edgeinspect: error:") for line in error) == 1
    assert message in "\n".join(error)


def test_a_gate_cannot_be_evaluated_on_one_label_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path / "bad", ["dark"] * 4)
    assert main(["evaluate", "tiny-gate", "--data", str(folder)]) == 65
    assert "all 4 images are defective" in capsys.readouterr().err
    # A segmenter is evaluated on its masks.
    assert main(["evaluate", "tiny-seg", "--data", str(folder)]) == 0


def test_an_empty_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(["evaluate", "tiny-gate", "--data", str(tmp_path / "nothing")]) == 65
    assert "layout" in capsys.readouterr().err


def test_masks_of_another_size(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mask in (mixed / "masks").iterdir():
        cv2.imwrite(str(mask), np.zeros((16, 16), np.uint8))
    assert main(["evaluate", "tiny-seg", "--data", str(mixed)]) == 65
    assert "mask is 16 x 16 px" in capsys.readouterr().err


def test_a_broken_image_is_left_out_and_named(mixed: Path, tmp_path: Path) -> None:
    (mixed / "images" / "p003.png").write_bytes(b"no image")
    metrics = tmp_path / "out.json"
    assert main(["evaluate", "tiny-seg", "--data", str(mixed), "--json-file", str(metrics)]) == 0
    evaluation = json.loads(metrics.read_text())
    assert evaluation["pictures"] == 19
    assert list(evaluation["skipped"]) == ["p003.png"]


def test_classes_that_the_model_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(tmp_path / "set", ["dark", "good"])
    index = folder / "index.csv"
    index.write_text(index.read_text().replace("dark_px", "rust_px"))
    assert main(["evaluate", "tiny-seg", "--data", str(folder)]) == 65
    assert "the model has dark, bright" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.parametrize(
    ("model", "data", "path", "expected"),
    [
        ("neu-segmenter", "neu_seg", ("overlap", "miou"), 0.6694),
        ("tile-gate", "magnetic_tile", ("ranking", "auc"), 0.7885),
    ],
)
def test_the_metrics_are_those_of_the_daemon(
    model: str, data: str, path: tuple[str, str], expected: float, shared_data: Path, tmp_path: Path
) -> None:
    if not (REAL / model / "1").is_dir():
        pytest.skip(f"the model {model} is not here")
    metrics = tmp_path / "out.json"
    code = main(
        [
            "evaluate",
            str(REAL / model / "1"),
            "--data",
            str(shared_data / data),
            "--json-file",
            str(metrics),
        ]
    )
    assert code == 0
    evaluation = json.loads(metrics.read_text())
    assert evaluation[path[0]][path[1]] == pytest.approx(expected, abs=5e-5)


def test_the_store_is_an_option_of_each(
    store: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEINSPECT_STORE", str(tmp_path))
    images = str(mixed / "images")
    for words in (
        ["evaluate", "tiny-seg", "--gate", "tiny-gate", "--data", str(mixed)],
        ["compare", "tiny-seg", "tiny-seg", "--data", str(mixed)],
        ["explain", "tiny-seg", images, "--out", str(tmp_path / "explained")],
    ):
        assert main(words) == 65, words
        assert main([*words, "--store", str(store)]) == 0, words


def test_a_line_has_its_own_store(
    store: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = tmp_path / "line.yaml"
    line.write_text("line: x\n")
    words = ["evaluate", "--line", str(line), "--data", str(mixed), "--store", str(store)]
    assert main(words) == 64
    assert "--store goes with MODEL" in capsys.readouterr().err
