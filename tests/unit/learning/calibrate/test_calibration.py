"""Calibrations of a small working model, and of one with outlier channels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests import needs

needs.library("onnx")
needs.library("onnxruntime")
needs.library("openvino")

from edgeinspect.cli.main import main
from edgeinspect.learning.calibrate.distance import OutputDistance
from edgeinspect.learning.calibrate.layer_sensitivity import (
    LayerSensitivity,
    SensitivityReport,
    exclude_layers,
)
from edgeinspect.learning.onnx_graphs.graph import GraphIndex, load_model
from edgeinspect.storage.model_store import ModelStore
from tests.unit.learning.calibrate import networks

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and a data set."""
    folder = tmp_path_factory.mktemp("calibrate")
    networks.write_dataset(folder / "data", 60)
    good = networks.segmenter()
    networks.make_store(folder / "models", good)
    networks.make_store(folder / "models", networks.add_outlier_channels(good), name="broken")
    return folder


def arguments(workspace: Path, name: str, out: Path, *more: str) -> list[str]:
    return [
        "calibrate",
        str(workspace / "models" / name / "1"),
        "--store",
        str(out / "store"),
        "--work",
        str(out / "work"),
        "--images",
        f"{workspace}/data#train",
        "--sensitivity-frames",
        "4",
        *more,
    ]


def label_arguments(workspace: Path) -> tuple[str, str]:
    return "--data", f"{workspace}/data#test"


def read_reports(out: Path, name: str, version: str) -> dict:
    return json.loads((out / "calibration" / name / version / "report.json").read_text())


def test_a_good_model_is_accepted_and_the_line_can_load_it(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(workspace, "patches", tmp_path, *label_arguments(workspace))) == 0
    assert "patches/1 is live, as the first version of its name, in" in capsys.readouterr().out
    spec = ModelStore(tmp_path / "store").resolve("patches/1")
    assert spec.precision.value == "int8"
    assert spec.id.calibration is not None
    assert dict(spec.thresholds)["bright"] == {"score": 0.5, "area_px": 20.0}
    found = read_reports(tmp_path, "patches", "1")
    assert found["accepted"]
    assert found["id"] == spec.id.calibration
    assert {check["name"] for check in found["checks"]} >= {
        "Dice of bright",
        "Dice of dark",
        "escape rate",
    }
    metadata = {entry.key: entry.value for entry in load_model(spec.path).metadata_props}
    assert metadata["edgeinspect.calibration"] == spec.id.calibration
    page = (tmp_path / "calibration" / "patches" / "1" / "report.html").read_text()
    assert "<svg" in page
    assert 'src="http' not in page
    rows = (tmp_path / "calibration" / "patches" / "1" / "ranges.csv").read_text().splitlines()
    assert rows[0].startswith("tensor,low,high,values,minmax,percentile,entropy,mse")
    assert not (tmp_path / "work").exists() or not any((tmp_path / "work").iterdir())


def test_a_new_version_is_a_candidate_and_what_is_live_stays_live(
    workspace: Path, tmp_path: Path
) -> None:
    networks.make_store(tmp_path / "store", networks.segmenter())
    asked = arguments(
        workspace, "patches", tmp_path, *label_arguments(workspace), "--method", "mse"
    )
    asked[1] = "patches/1"
    assert main(asked) == 0
    store = ModelStore(tmp_path / "store")
    assert store.versions("patches") == (1, 2)
    assert store.resolve("patches").id.version == 1
    assert store.stage_of("patches", 2).value == "candidate"
    manifest = yaml.safe_load((tmp_path / "store" / "patches" / "2" / "manifest.yaml").read_text())
    assert manifest["training"]["parent"]["sha256"] == store.resolve("patches/1").id.sha256
    # An INT8 model is not calibrated again.
    asked[1] = "patches/2"
    assert main(asked) == 65


def test_a_model_with_outlier_channels_is_rejected_and_the_layer_is_named(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(workspace, "broken", tmp_path, *label_arguments(workspace))) == 65
    assert "INT8 of broken/1 is rejected: Dice of bright" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
    (refused,) = (tmp_path / "calibration" / "broken").iterdir()
    assert refused.name.startswith("refused-cal-")
    found = json.loads((refused / "report.json").read_text())
    assert not found["accepted"]
    assert "Dice of" in found["reason"]
    worst, second = found["blame"]["rows"][:2]
    assert worst["layer"] == "third"
    assert worst["signal_db"] < 10 < second["signal_db"]
    assert worst["strays"] > 20 * second["strays"]


def test_exclude_sensitive_keeps_only_that_layer_in_float(workspace: Path, tmp_path: Path) -> None:
    assert (
        main(
            arguments(
                workspace, "broken", tmp_path, *label_arguments(workspace), "--exclude-sensitive"
            )
        )
        == 0
    )
    found = read_reports(tmp_path, "broken", "1")
    assert found["calibration"]["left_in_float"] == ["third"]
    assert not all(check["passed"] for check in found["before_recovering"])
    assert all(check["passed"] for check in found["checks"])
    graph = GraphIndex(load_model(ModelStore(tmp_path / "store").resolve("broken/1").path))
    fed = {
        name: graph.producer(graph.producer(name).input[0]).op_type == "DequantizeLinear"
        for name in networks.LAYERS
    }
    assert fed == {"first": True, "second": True, "third": False}


def test_without_labels_agreement_is_checked(workspace: Path, tmp_path: Path) -> None:
    assert main(arguments(workspace, "patches", tmp_path)) == 0
    names = {check["name"] for check in read_reports(tmp_path, "patches", "1")["checks"]}
    assert names == {
        "verdicts that agree",
        "classes that the segmenter finds",
        "Dice of bright against FP32",
        "Dice of dark against FP32",
    }
    assert main(arguments(workspace, "broken", tmp_path)) == 65


@pytest.mark.slow
def test_two_calibrations_are_byte_identical_and_another_seed_is_not(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    made = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        asked = arguments(
            workspace,
            "patches",
            tmp_path / name,
            *label_arguments(workspace),
            "--seed",
            seed,
            "--frames",
            "15",
            "--held-out",
            "5",
        )
        assert main(asked) == 0
        made.append(everything(tmp_path / name))
    assert made[0] == made[1]
    assert made[0].keys() == made[2].keys()
    assert made[0]["store/patches/1/model.onnx"] != made[2]["store/patches/1/model.onnx"]


def everything(folder: Path) -> dict[str, bytes]:
    """Return every file that a calibration wrote, except checkpoints."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "work" not in path.parts and not path.name.startswith(".")
    }


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_resuming_after_kill_9_gives_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1800000000", "PYTHONPATH": str(ROOT)}
    program = (
        "import sys, time\n"
        "import edgeinspect.learning.calibrate.checkpoint as checkpoint\n"
        "import edgeinspect.learning.calibrate.ranges as ranges\n"
        "if sys.argv.pop(1) == 'slow':\n"
        "    add = ranges.ActivationHistogram.add\n"
        "    ranges.ActivationHistogram.add = lambda *a: (time.sleep(0.05), add(*a))[1]\n"
        "ranges.collect_histograms.__defaults__ = (checkpoint.no_progress, 3)\n"
        "from edgeinspect.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )

    def command(out: str, speed: str, *more: str) -> list[str]:
        asked = arguments(
            workspace,
            "patches",
            tmp_path / out,
            *label_arguments(workspace),
            "--sensitivity-frames",
            "0",
            *more,
        )
        return [sys.executable, "-c", program, speed, *asked]

    whole = subprocess.run(
        command("whole", "fast"), env=env, cwd=ROOT, check=False, capture_output=True
    )
    assert whole.returncode == 0, whole.stderr.decode()
    with subprocess.Popen(
        command("killed", "slow"),
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        give_up_at = time.monotonic() + 60
        while not list((tmp_path / "killed").glob("work/*/ranges.npz")):
            assert child.poll() is None
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        second = subprocess.run(
            command("killed", "fast"), env=env, cwd=ROOT, check=False, capture_output=True
        )
        assert second.returncode == 73, second.stderr.decode()
        assert b"another process is writing into this folder" in second.stderr
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "store").exists()
    again = subprocess.run(
        command("killed", "fast", "--resume"), env=env, cwd=ROOT, check=False, capture_output=True
    )
    assert again.returncode == 0, again.stderr.decode()
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")
    assert not any((tmp_path / "killed" / "work").iterdir()), "neither state nor lock file"


def test_openvino_runs_the_convolutions_in_int8(workspace: Path, tmp_path: Path) -> None:
    import openvino

    assert (
        main(
            arguments(
                workspace,
                "patches",
                tmp_path,
                *label_arguments(workspace),
                "--sensitivity-frames",
                "0",
            )
        )
        == 0
    )
    path = ModelStore(tmp_path / "store").resolve("patches/1").path
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ran = {}
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str) == "Convolution":
            name = info["originalLayersNames"].astype(str).split(",")[0]
            ran[name.split("/")[0]] = info["runtimePrecision"].astype(str)
    assert {name: ran[name] for name in networks.LAYERS} == dict.fromkeys(
        networks.LAYERS, "i8"
    ) or {ran[name] for name in networks.LAYERS} <= {"i8", "u8"}
    assert ran["logits"] == "f32"


def test_layers_that_are_not_needed_in_float_are_quantized_again() -> None:
    rows = tuple(LayerSensitivity(name, 16, 16, 10.0, 1.0, 0.0, 0.0, 0.0) for name in "abcd")
    found = SensitivityReport(rows, OutputDistance(0, (), ""), OutputDistance(1, (), ""), 4)
    assert exclude_layers(found, lambda names: {"b", "d"} <= set(names), 4) == ("b", "d")
    assert exclude_layers(found, lambda names: "a" in names, 4) == ("a",)
    assert exclude_layers(found, lambda names: "d" in names, 3) is None


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--images", "strip:1"], 64, "strip:SEED:COUNT"),
        (["--images", "/nowhere"], 65, "there is no such file"),
        (["--keep-float", "nothing"], 65, "no layer nothing"),
        (["--backend", "trt"], 64, "ov or ort"),
        (["--data", "{workspace}/data#val"], 65, "no images in split 'val'"),
    ],
)
def test_errors_name_a_remedy(
    workspace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    words: str,
) -> None:
    asked = [each.format(workspace=workspace) for each in more]
    assert main([*arguments(workspace, "patches", tmp_path), *asked]) == code
    assert words in capsys.readouterr().err
