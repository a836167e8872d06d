"""Unsupported, damaged and hostile models are rejected with a message."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import needs

onnx = needs.library("onnx")
needs.library("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from edgeinspect.cli.main import main
from edgeinspect.learning.onnx_graphs.importer.installation import graph_precision

SIZE = 64


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for index in range(3):
        image = rng.integers(20 * index, 120 + 30 * index, (SIZE, SIZE)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def graph(
    nodes: list[Any],
    outputs: list[str],
    weights: dict[str, np.ndarray],
    *,
    opset: int = 17,
    size: int = SIZE,
    element_type: int = TensorProto.FLOAT,
    channels: int = 1,
) -> Any:
    return helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", element_type, [1, channels, size, size])],
            [helper.make_tensor_value_info(name, element_type, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def rows(count: int, numbers: int) -> Any:
    """A network with `count` rows of `numbers` as output, like a detector."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(0, 0.1, (SIZE * SIZE, count)).astype(np.float32),
        "n": rng.normal(0, 1, (1, numbers, 1)).astype(np.float32),
        "flat": np.array([1, 1, SIZE * SIZE], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Mul", ["m", "n"], ["output0"]),
    ]
    return graph(nodes, ["output0"], weights)


def segmenter(
    *, opset: int = 17, classes: int = 1, bias: float = 0.0, resize: str = "", fp16: bool = False
) -> Any:
    kind = np.float16 if fp16 else np.float32
    element_type = TensorProto.FLOAT16 if fp16 else TensorProto.FLOAT
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(0, 1, (classes, 1, 3, 3)).astype(kind),
        "b": np.full(classes, bias, kind),
    }
    stride = 2 if resize else 1
    nodes = [
        helper.make_node(
            "Conv",
            ["x", "w", "b"],
            ["c" if resize else "y"],
            pads=[1] * 4,
            strides=[stride, stride],
        )
    ]
    if resize:
        weights["scale"] = np.array([1, 1, 2, 2], np.float32)
        inputs = ["c", "scale"] if resize == "Upsample" or opset < 11 else ["c", "", "scale"]
        nodes.append(helper.make_node(resize, inputs, ["y"], mode="linear"))
    return graph(nodes, ["y"], weights, opset=opset, element_type=element_type)


def import_network(
    model: Any, samples: Path, *words: str, kind: str = "segmenter"
) -> tuple[int, Path]:
    file = samples.parent / "net.onnx"
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    options = ["--classes", "defect", "--output", "logits"] if kind == "segmenter" else []
    options += ["--good-index", "0"] if kind == "gate" else []
    options = [] if words and words[0] == "--classes" else options
    return main(
        [
            "models",
            "import",
            str(file),
            "--kind",
            kind,
            "--name",
            "net",
            "--size",
            f"{SIZE}x{SIZE}",
            "--channels",
            "1",
            "--samples",
            str(samples),
            "--store",
            str(samples.parent / "store"),
            *options,
            *words,
        ]
    ), file


def import_error(
    capsys: pytest.CaptureFixture[str],
    model: Any,
    samples: Path,
    *words: str,
    kind: str = "segmenter",
    code: int = 65,
) -> str:
    exit_code, _file = import_network(model, samples, *words, kind=kind)
    err = capsys.readouterr().err
    assert exit_code == code, err
    assert "Traceback" not in err
    assert not list((samples.parent / "store").glob("net/*/manifest.yaml"))
    return err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "numbers"), [(8400, 5), (8400, 37), (5, 8400), (100, 92), (25200, 6), (300, 4)]
)
def test_rows_of_boxes_are_not_a_map(
    samples: Path, capsys: pytest.CaptureFixture[str], count: int, numbers: int
) -> None:
    err = import_error(capsys, rows(count, numbers), samples)
    assert "is not a map" in err
    assert "semantic segmenter" in err


def test_a_square_tensor_without_spatial_meaning_is_not_a_map(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "changes both of its halves alike" in import_error(capsys, rows(32, 32), samples)


def test_rows_of_boxes_are_not_a_gate_even_if_named(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = import_error(capsys, rows(300, 2), samples, "--output-name", "output0", kind="gate")
    assert "does not classify a whole image" in err


@pytest.mark.parametrize("task", ["detect", "pose", "obb", "segment", "classify"])
def test_a_detector_is_recognised_by_its_metadata(
    samples: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    model = segmenter()
    helper.set_model_props(model, {"task": task, "names": "{0: 'pit'}"})
    assert f"(task: {task})" in import_error(capsys, model, samples)


@pytest.mark.parametrize("name", ["boxes", "pred_boxes", "detection_scores", "num_dets", "dets"])
def test_a_detector_is_recognised_by_its_output_names(
    samples: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = segmenter()
    model.graph.node[0].output[0] = model.graph.output[0].name = name
    assert f"a detector by the name of its output {name}" in import_error(capsys, model, samples)


def test_a_detector_is_recognised_by_its_operators(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = segmenter()
    model.graph.node.append(helper.make_node("NonMaxSuppression", ["y", "y"], ["nms"]))
    assert "has the operator NonMaxSuppression" in import_error(capsys, model, samples)


def test_defect_everywhere_is_rejected_unless_allowed(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = segmenter(bias=1e4)
    err = import_error(capsys, model, samples)
    assert "a defect on 100 % of every sample (3)" in err
    assert "--allow-uniform" in err
    assert import_network(model, samples, "--allow-uniform")[0] == 0
    assert "WARNING: it gives a defect on 100 %" in capsys.readouterr().err


def test_defect_nowhere_is_a_warning(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_network(segmenter(bias=-1e4), samples)[0] == 0
    assert "WARNING: it gives no defect on any sample" in capsys.readouterr().err


def test_one_probability_for_all_samples_is_rejected(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Mul", ["f", "zero"], ["y"]),
    ]
    model = graph(nodes, ["y"], {"zero": np.zeros((1, 1), np.float32)})
    err = import_error(capsys, model, samples, "--output", "logits", kind="gate")
    assert "defect_prob 0.5000 of every sample" in err


@pytest.mark.parametrize(("opset", "operator"), [(9, "Upsample"), (10, "Resize")])
def test_legacy_resizing_is_kept_and_noted(
    samples: Path, capsys: pytest.CaptureFixture[str], opset: int, operator: str
) -> None:
    model = segmenter(opset=opset, resize=operator)
    assert import_network(model, samples)[0] == 0
    assert "export it at opset 11 or later (or run onnx.version_converter)" in (
        capsys.readouterr().out
    )


def test_an_unsupported_opset_is_rejected(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = segmenter()
    model.opset_import[0].version = 99
    assert "has opset 99; the installed onnx supports up to" in import_error(capsys, model, samples)


@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "missing.data", ".", "pipe", ""]
)
def test_weights_outside_the_folder_are_never_read(
    samples: Path, capsys: pytest.CaptureFixture[str], location: str
) -> None:
    import os

    os.mkfifo(samples.parent / "pipe")
    model = segmenter()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)
    err = import_error(capsys, model, samples)
    assert "its weights are in another file, which cannot be read" in err


def test_bfloat16_unknown_operators_and_control_flow_end_without_a_traceback(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = segmenter()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    assert "is bfloat16" in import_error(capsys, model, samples)
    model = segmenter()
    model.graph.node[0].op_type = "Swish9000"
    model.graph.node[0].domain = "com.nobody"
    assert "ONNX Runtime cannot load it" in import_error(capsys, model, samples)
    answer = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "b", [], [answer])
    model = segmenter()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(
        0, helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch)
    )
    model.graph.node[1].input[0] = "i"
    code, _file = import_network(model, samples)
    assert code in (0, 65)
    assert "Traceback" not in capsys.readouterr().err


def test_a_float16_graph_has_fp16_in_its_manifest(samples: Path) -> None:
    assert import_network(segmenter(fp16=True), samples)[0] == 0
    manifest = (samples.parent / "store/net/1/manifest.yaml").read_text()
    assert "precision: fp16" in manifest


def test_int8_of_a_float16_graph_is_rejected_with_a_remedy(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = samples.parent / "store"
    assert import_network(segmenter(fp16=True), samples)[0] == 0
    manifest = store / "net/1/manifest.yaml"
    for precision in ("fp16", "fp32"):  # as an import before this one wrote it
        manifest.write_text(
            manifest.read_text().replace("precision: fp16", f"precision: {precision}")
        )
        words = ["--store", store, "--images", samples, "--work", samples.parent / "work"]
        code = main(["calibrate", "net/1", "--frames", "2", "--held-out", "1", *map(str, words)])
        err = capsys.readouterr().err
        assert (code, "float32 version" in err) == (65, True), err


def test_dynamic_quantization_is_int8() -> None:
    model = segmenter()
    model.graph.node.append(helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]))
    assert graph_precision(model) == "int8"


HOSTILE = """
import sys
from pathlib import Path
from edgeinspect.cli.main import main
for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
    code = main(["models", "import", str(file), "--kind", "segmenter", "--classes", "defect",
                 "--output", "logits", "--allow-uniform", "--name", file.stem, "--size", "64x64",
                 "--channels", "1", "--samples", sys.argv[2], "--store", sys.argv[3]])
    if code not in (0, 64, 65):
        sys.exit(f"{file.name}: {code}")
"""


def test_damaged_graphs_never_crash_the_interpreter(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    intact = segmenter(resize="Resize").SerializeToString()
    rng = random.Random(11)
    for number in range(60):
        data = bytearray(intact)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(len(data))
            if rng.random() < 0.6:
                data[at] = rng.randrange(256)
            elif rng.random() < 0.5:
                del data[at : at + rng.randrange(1, 20)]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 12))
        (folder / f"n{number:02}.onnx").write_bytes(data)
    (folder / "nested.onnx").write_bytes(b"\x3a\x0a" * 50_000)
    (folder / "empty.onnx").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(folder), str(samples), str(tmp_path / "st")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-600:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(90), "a zip archive.*torch.onnx.export"),
        (b"\x80\x02}q", "a pickled object.*torch.onnx.export"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file.*tf2onnx"),
        (b"\x1c\0\0\0TFL3" + bytes(90), "a TensorFlow Lite file.*tf2onnx.convert --tflite"),
        (b"ftrt" + bytes(90), "a TensorRT plan.*Give the ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>", "an XML or HTML text"),
    ],
)
def test_other_file_types_are_identified(
    samples: Path, capsys: pytest.CaptureFixture[str], data: bytes, words: str
) -> None:
    err = import_error(capsys, data, samples)
    assert re.search(words, err), err


def test_values_in_0_to_1_require_an_option_even_if_they_do_not_sum_to_1(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Clip", ["c", "low", "high"], ["y"]),
    ]
    weights = {
        "w": np.random.default_rng(5).normal(0, 1, (3, 1, 3, 3)).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(1, np.float32),
    }
    model = graph(nodes, ["y"], weights)
    err = import_error(capsys, model, samples, "--classes", "pit,scar", code=64)
    assert "they may be logits or probabilities" in err


def test_an_argmax_cast_to_float_is_removed(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("ArgMax", ["c"], ["i"], axis=1),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"w": np.random.default_rng(6).normal(0, 1, (3, 1, 3, 3)).astype(np.float32)}
    assert import_network(graph(nodes, ["y"], weights), samples, "--classes", "pit,scar")[0] == 0
    assert "its input c is used" in capsys.readouterr().out


def test_a_background_in_the_last_channel_is_a_warning(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        "w": np.random.default_rng(7).normal(0, 0.01, (3, 1, 1, 1)).astype(np.float32),
        "b": np.array([0, 0, 9], np.float32),
    }
    model = graph([helper.make_node("Conv", ["x", "w", "b"], ["y"])], ["y"], weights)
    assert import_network(model, samples, "--classes", "pit,scar")[0] == 0
    assert "is the background the last of its channels" in capsys.readouterr().err


def test_bfloat16_is_rejected_with_a_remedy(
    samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = segmenter()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    assert "Export the network in float32" in import_error(capsys, model, samples)
