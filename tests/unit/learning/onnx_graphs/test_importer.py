"""Import of foreign networks: every supported form, each error, and the verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import needs

onnx = needs.library("onnx")
ort = needs.library("onnxruntime")

from onnx import TensorProto, helper, numpy_helper

from edgeinspect.cli.main import main
from edgeinspect.domain import Decides, ModelKind, Precision, SystemClock
from edgeinspect.errors import DataError, ModelError, OutputError, UsageError
from edgeinspect.learning.onnx_graphs.importer import contract_graph, importer
from edgeinspect.learning.onnx_graphs.importer.importer import import_model
from edgeinspect.learning.onnx_graphs.importer.request import ImportRequest, find_good_index
from edgeinspect.registry import load_plugin
from edgeinspect.storage.model_store import ModelStore

HEIGHT, WIDTH = 24, 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ForeignNetwork:
    """A small random network as other tools export it."""

    kind: str = "gate"
    layout: str = "nchw"
    channels: int = 3
    outputs: int = 2
    ending: str = ""
    opset: int = 17
    dtype: Any = np.float32
    size: tuple[int, int] | None = (HEIGHT, WIDTH)
    """None: free in the graph."""
    stride: int = 2
    batch: int | str = "N"
    arg_max: bool = False
    auxiliary: bool = False
    drops_map_axis: bool = False

    def build(self) -> Any:
        rng = np.random.default_rng(7)
        element_type = TensorProto.FLOAT16 if self.dtype == np.float16 else TensorProto.FLOAT
        weights = {
            "w1": rng.normal(0, 0.5, (6, self.channels, 3, 3)),
            "b1": rng.normal(0, 0.3, 6),
            "w2": rng.normal(0, 1, (self.outputs, 6, 1, 1)),
            "b2": rng.normal(0, 0.5, self.outputs),
            "w3": rng.normal(0, 3, (6, self.outputs)),
        }
        nodes, x = [], "input"
        if self.layout == "nhwc":
            nodes.append(helper.make_node("Transpose", [x], ["first"], perm=[0, 3, 1, 2]))
            x = "first"
        strides = [self.stride, self.stride]
        nodes.append(
            helper.make_node("Conv", [x, "w1", "b1"], ["c1"], pads=[1] * 4, strides=strides)
        )
        nodes.append(helper.make_node("Relu", ["c1"], ["r1"]))
        if self.kind == "gate":
            nodes.append(helper.make_node("GlobalAveragePool", ["r1"], ["pool"]))
            nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
            nodes.append(helper.make_node("Gemm", ["flat", "w3", "b2"], ["y"]))
        else:
            nodes.append(helper.make_node("Conv", ["r1", "w2", "b2"], ["y"]))
        x = "y"
        if self.ending == "Softmax" and self.kind == "segmenter":  # as exporters did below 13
            nodes.append(helper.make_node("Transpose", [x], ["t"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Softmax", ["t"], ["u"], axis=3))
            nodes.append(helper.make_node("Transpose", ["u"], ["p"], perm=[0, 3, 1, 2]))
            x = "p"
        elif self.ending:
            more = {"axis": 1} if self.ending == "Softmax" else {}
            nodes.append(helper.make_node(self.ending, [x], ["p"], **more))
            x = "p"
        kind = element_type
        if self.arg_max:
            nodes.append(helper.make_node("ArgMax", [x], ["m"], axis=1, keepdims=0))
            x, kind = "m", TensorProto.INT64
        elif self.drops_map_axis:
            nodes.append(helper.make_node("Squeeze", [x, "one"], ["sq"]))
            x = "sq"
        elif self.kind == "segmenter" and self.layout == "nhwc":
            nodes.append(helper.make_node("Transpose", [x], ["last"], perm=[0, 2, 3, 1]))
            x = "last"
        nodes.append(helper.make_node("Identity", [x], ["answer"]))
        height, width = self.size or ("h", "w")
        dims = [self.batch, self.channels, height, width]
        if self.layout == "nhwc":
            dims = [self.batch, height, width, self.channels]
        outputs = [helper.make_tensor_value_info("answer", kind, None)]
        if self.auxiliary:
            nodes.append(helper.make_node("Identity", ["r1"], ["features"]))
            outputs.append(helper.make_tensor_value_info("features", element_type, None))
        constants = [numpy_helper.from_array(v.astype(self.dtype), k) for k, v in weights.items()]
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("input", element_type, dims)],
            outputs,
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        return model


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of the line's size, in colour, and one of another size."""
    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(3)
    for index in range(3):
        level = rng.integers(20, 200, (1, 1, 3))
        image = np.clip(level + rng.normal(0, 30, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    cv2.imwrite(str(folder / "other.png"), rng.integers(0, 255, (50, 30, 3)).astype(np.uint8))
    return folder


def request(file: Path, net: ForeignNetwork, **changes: Any) -> ImportRequest:
    gate = net.kind == "gate"
    values: dict[str, Any] = {
        "file": file,
        "kind": ModelKind(net.kind),
        "height_px": HEIGHT,
        "width_px": WIDTH,
        "channels": net.channels,
        "color": "rgb" if net.channels == 3 else None,
        "allow_uniform": True,  # random weights sometimes give a constant result
        "mean": MEAN if net.channels == 3 else (0.5,),
        "std": STD if net.channels == 3 else (0.25,),
        "good_index": 0 if gate else None,
        "output": None if net.ending else "logits",
    }
    return ImportRequest(**(values | changes))


def save_network(net: ForeignNetwork, folder: Path) -> Path:
    path = folder / "foreign.onnx"
    path.write_bytes(net.build().SerializeToString())
    return path


def names(count: int) -> tuple[str, ...]:
    return tuple(f"kind-{index}" for index in range(count))


# -- every form -----------------------------------------------------------------------------

COMMON = {
    "layout": st.sampled_from(["nchw", "nhwc"]),
    "channels": st.sampled_from([1, 3]),
    "opset": st.sampled_from([11, 13, 17, 19, 21]),
    "size": st.sampled_from([(HEIGHT, WIDTH), (16, 32), (32, 56), None]),
    "dtype": st.sampled_from([np.float32, np.float32, np.float16]),
    "batch": st.sampled_from([1, "N"]),
}
HEADS = [(1, ""), (1, "Sigmoid"), (2, ""), (2, "Softmax"), (5, ""), (4, "Sigmoid")]
QUICK = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("backend", ["ort", "ov"])
@pytest.mark.parametrize("good", [None, "ok"])
@pytest.mark.parametrize("ending", ["", "Softmax"])
def test_a_classifier_of_several_classes_keeps_its_kinds(
    good: str | None, ending: str, backend: str, samples: Path, tmp_path: Path
) -> None:
    needs.library({"ort": "onnxruntime", "ov": "openvino"}[backend])
    classes = ("pit", "ok", "scratch", "stain") if good else ("pit", "scratch", "stain", "burr")
    net = ForeignNetwork(outputs=4, ending=ending)
    file = save_network(net, tmp_path)
    good_index = find_good_index(classes, good) if good else None
    asked = request(file, net, classes=classes, good_index=good_index, kinds_only=good is None)
    done = import_model(asked, tmp_path / "store", "kinds", samples)
    assert done.equivalence.largest_errors["class_prob"] <= 1e-3
    plugin = load_plugin("backend", backend)
    store = ModelStore(tmp_path / "store")
    engine = plugin.build(plugin.Options(model="kinds"), SystemClock(), store=store)
    assert engine.spec.kinds == tuple(name for name in classes if name != good)
    assert engine.spec.decides is (Decides.DEFECTS if good else Decides.KINDS)
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    prob, kinds = engine.infer(frame)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    x = ((frame[:, :, ::-1] / np.float32(255) - mean) / std).astype(np.float32)
    session = ort.InferenceSession(str(file))
    raw = session.run(None, {"input": x.transpose(2, 0, 1)[None]})[0][0]
    probs = raw if ending else np.exp(raw - raw.max()) / np.exp(raw - raw.max()).sum()
    wanted = [value for value, name in zip(probs, classes, strict=True) if name != good]
    np.testing.assert_allclose(kinds[0], wanted, atol=1e-4)
    assert prob[0] == pytest.approx(1 - probs[1] if good else 1.0, abs=1e-4)
    engine.close()


def test_one_probability_remains_without_names_or_with_a_defective_output(
    samples: Path, tmp_path: Path
) -> None:
    net = ForeignNetwork(outputs=4)
    file = save_network(net, tmp_path)
    for number, changes in enumerate(
        ({"good_index": 1}, {"good_index": None, "defect_index": 1, "classes": names(4)})
    ):
        import_model(request(file, net, **changes), tmp_path / "store", f"m{number}", samples)
        spec = ModelStore(tmp_path / "store").resolve(f"m{number}")
        assert (spec.contract, spec.classes) == ("1", ("defect",))


@QUICK
@given(
    form=st.fixed_dictionaries(COMMON),
    head=st.sampled_from(HEADS),
    meaning=st.sampled_from(["good", "defect", "any"]),
    color=st.sampled_from(["bgr", "rgb"]),
    frame_color=st.sampled_from(["bgr", "rgb"]),
)
def test_any_classifier(
    form: dict[str, Any],
    head: tuple[int, str],
    meaning: str,
    color: Literal["bgr", "rgb"],
    frame_color: Literal["bgr", "rgb"],
    samples: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("gate")
    net = ForeignNetwork(outputs=head[0], ending=head[1], **form)
    activation = "sigmoid" if meaning == "any" and head == (4, "Sigmoid") else None
    index = {"good": (head[0] - 1, None), "defect": (None, 0), "any": (None, None)}[meaning]
    if meaning == "any" and activation is None:
        index = (0, None)
    asked = request(
        save_network(net, folder),
        net,
        color=color,
        frame_color=frame_color,
        good_index=index[0],
        defect_index=index[1],
    )
    done = import_model(asked, folder / "store", "gate", samples)
    assert done.equivalence.sample_count == 4
    assert check_loads_on_the_line(folder / "store", "gate") == Precision(
        "fp16" if net.dtype == np.float16 else "fp32"
    )


@QUICK
@given(
    form=st.fixed_dictionaries(COMMON),
    classes=st.sampled_from([1, 2, 4]),
    head=st.sampled_from(["softmax", "Softmax", "sigmoid", "Sigmoid", "sigmoid+background"]),
    stride=st.sampled_from([1, 2, 4]),
    limit=st.sampled_from([(0.5,), (0.3,)]),
)
def test_any_segmenter(
    form: dict[str, Any],
    classes: int,
    head: str,
    stride: int,
    limit: tuple[float, ...],
    samples: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    height_px, width_px = form["size"] or (HEIGHT, WIDTH)
    spatial_px = height_px if form["layout"] == "nhwc" else width_px
    # A side as long as a class list makes the layout ambiguous, which is refused: see
    # test_importer_refusals.
    assume(spatial_px // stride not in (classes, classes + 1))
    folder = tmp_path_factory.mktemp("segmenter")
    has_background = head.lower() == "softmax" or "+" in head
    ending = head if head[0].isupper() else ""
    net = ForeignNetwork(
        "segmenter", outputs=classes + has_background, ending=ending, stride=stride, **form
    )
    asked = request(
        save_network(net, folder),
        net,
        classes=names(classes),
        thresholds=limit,
        background="first" if "+" in head else None,
        activation="sigmoid" if head.startswith("sigmoid") else None,
    )
    import_model(asked, folder / "store", "segmenter", samples)
    check_loads_on_the_line(folder / "store", "segmenter")


def check_loads_on_the_line(store: Path, name: str) -> Precision:
    """Load the written model with a backend of the line; return its precision."""
    spec = ModelStore(store).resolve(f"{name}/1")
    backend = load_plugin("backend", "ort")
    engine = backend.build(
        backend.Options(model=f"{name}/1"), SystemClock(), store=ModelStore(store)
    )
    try:
        outputs = engine.infer(np.zeros(spec.shape.dims, np.uint8))
        assert all(np.isfinite(output.astype(float)).all() for output in outputs)
    finally:
        engine.close()
    first = next(n for n in onnx.load(spec.path).graph.node if "image" in n.input)
    assert first.op_type == "Cast"  # TensorRT's condition
    return spec.precision


def test_the_result_matches_the_network(tmp_path: Path) -> None:
    """Checked by hand, independent of the importer's verification: good is the red ratio."""
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["x", "zero", "one", "one"], ["red"]),
            helper.make_node("ReduceMean", ["red"], ["p"], axes=[2, 3], keepdims=0),
        ],
        "red",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.array([i], np.int64), n) for n, i in (("zero", 0), ("one", 1))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    (tmp_path / "red.onnx").write_bytes(model.SerializeToString())
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :, 2] = 51  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    asked = ImportRequest(
        tmp_path / "red.onnx",
        ModelKind.GATE,
        8,
        8,
        3,
        color="rgb",
        output="probs",
        activation="sigmoid",
        good_index=0,
    )
    done = import_model(asked, tmp_path / "store", "red", tmp_path)
    session = ort.InferenceSession(str(done.folder / "model.onnx"))
    assert session.run(None, {"image": pixels[None]})[0] == pytest.approx([0.8], abs=1e-6)


def test_a_final_argmax_is_removed(tmp_path: Path, samples: Path) -> None:
    net = ForeignNetwork("segmenter", outputs=4, arg_max=True)
    asked = request(save_network(net, tmp_path), net, classes=names(3))
    done = import_model(asked, tmp_path / "store", "s", samples)
    assert any("arg-max" in note for note in done.notes)


def test_a_map_without_channel_axis_is_imported(tmp_path: Path, samples: Path) -> None:
    net = ForeignNetwork("segmenter", outputs=1, drops_map_axis=True)
    import_model(
        request(save_network(net, tmp_path), net, classes=("scratch",)),
        tmp_path / "s",
        "s",
        samples,
    )


def test_grey_frames_feed_a_colour_network(tmp_path: Path, samples: Path) -> None:
    net = ForeignNetwork()
    asked = request(save_network(net, tmp_path), net, channels=1, color=None)
    done = import_model(asked, tmp_path / "store", "g", samples)
    assert any("grey" in note for note in done.notes)
    assert ModelStore(tmp_path / "store").resolve("g").color == "mono"


def test_thresholds_per_class_and_consecutive_versions(tmp_path: Path, samples: Path) -> None:
    net = ForeignNetwork("segmenter", outputs=2, ending="Sigmoid")
    asked = request(save_network(net, tmp_path), net, classes=names(2), thresholds=(0.2, 0.7))
    for version in (1, 2):
        assert import_model(asked, tmp_path / "store", "s", samples).folder.name == str(version)
    with pytest.raises(OutputError, match="s/2 exists already"):
        import_model(asked, tmp_path / "store", "s", samples, version=2)


def test_external_weights_are_loaded(tmp_path: Path, samples: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(
        ForeignNetwork().build(),
        str(path),
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    import_model(request(path, ForeignNetwork()), tmp_path / "store", "g", samples)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="in another file"):
        import_model(request(path, ForeignNetwork()), tmp_path / "store", "h", samples)
    assert not (tmp_path / "store" / "h").exists()


# -- failed verification ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["wrong_mean", "wrong_scale", "no_channel_swap"])
def test_a_wrong_graph_is_rejected_and_nothing_is_written(
    fault: str, tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    correct_build = contract_graph.build_contract_graph

    def broken_build(model: Any, asked: ImportRequest, reading: Any) -> Any:
        if fault == "wrong_scale":
            asked = replace(asked, scale=1.1 * asked.scale)
        spec = reading.input_spec
        if fault == "no_channel_swap":
            spec = replace(spec, channels_swapped=False)
        if fault == "wrong_mean":
            spec = replace(spec, mean=tuple(value + 0.02 for value in spec.mean))
        return correct_build(model, asked, replace(reading, input_spec=spec))

    monkeypatch.setattr(importer, "build_contract_graph", broken_build)
    net = ForeignNetwork("segmenter", outputs=3)
    asked = request(save_network(net, tmp_path), net, classes=names(2))
    with pytest.raises(ModelError, match=r"disagrees with the original, worst on .*\.png"):
        import_model(asked, tmp_path / "store", "s", samples)
    assert not list((tmp_path / "store").rglob("*"))


# -- each refusal ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "changes", "error", "words"),
    [
        (ForeignNetwork(), {"color": None}, UsageError, "--color rgb or --color bgr"),
        (ForeignNetwork(), {"good_index": None}, UsageError, "--good-index I or --defect-index I"),
        (ForeignNetwork(), {"good_index": 2}, UsageError, "not one of the network's 2 outputs"),
        (ForeignNetwork(), {"good_index": 0, "defect_index": 1}, UsageError, "not both"),
        (ForeignNetwork(), {"classes": ("ok", "bad", "ugly")}, ModelError, "--classes names 3"),
        (ForeignNetwork(), {"mean": (0.5, 0.5)}, UsageError, "2 numbers for 3 channels"),
        (ForeignNetwork(), {"std": (0.5, 0, 0.5)}, UsageError, "above 0"),
        (ForeignNetwork(), {"scale": float("nan")}, UsageError, "is not a scale"),
        (ForeignNetwork(ending="Softmax"), {"output": "logits"}, UsageError, "ends in Softmax"),
        (
            ForeignNetwork(ending="Softmax"),
            {"activation": "sigmoid"},
            UsageError,
            "ends in Softmax",
        ),
        (ForeignNetwork(), {"output": "probs"}, UsageError, "not probabilities of a softmax"),
        (ForeignNetwork(outputs=1), {"activation": "softmax"}, UsageError, "always 1"),
        (ForeignNetwork(), {"kinds_only": True}, UsageError, "--classes, which names every"),
        (
            ForeignNetwork(),
            {"kinds_only": True, "classes": names(2)},
            UsageError,
            "no output is good",
        ),
        (
            ForeignNetwork(outputs=3),
            {
                "kinds_only": True,
                "classes": names(3),
                "good_index": None,
                "activation": "sigmoid",
            },
            UsageError,
            "softmax of two or more",
        ),
        (ForeignNetwork(batch=8), {}, ModelError, "takes 8 images at once"),
        (ForeignNetwork(size=(100_000, 100_000)), {}, ModelError, "are not an image"),
        (ForeignNetwork(layout="nhwc"), {"layout": "nchw"}, ModelError, "24 channels as nchw"),
        (ForeignNetwork(channels=1), {"channels": 3, "color": "rgb"}, ModelError, "has 1 channels"),
        (
            ForeignNetwork(size=(3, 3), layout="nchw"),
            {},
            UsageError,
            "--input-layout nchw or --input-layout nhwc",
        ),
        (ForeignNetwork(auxiliary=True), {"output_name": "nope"}, UsageError, "no output 'nope'"),
        (ForeignNetwork("segmenter"), {"classes": ()}, UsageError, "--classes a,b,c"),
        (
            ForeignNetwork("segmenter"),
            {"classes": names(5)},
            ModelError,
            "2 channels; 5 classes take",
        ),
        (ForeignNetwork("segmenter"), {"classes": ("a", "a")}, UsageError, "must differ"),
        (
            ForeignNetwork("segmenter"),
            {"classes": ("a",), "stride": 7},
            UsageError,
            "does not divide",
        ),
        (
            ForeignNetwork("segmenter"),
            {"classes": ("a",), "thresholds": (0.5, 0.5)},
            UsageError,
            "one per",
        ),
        (
            ForeignNetwork("segmenter", auxiliary=True),
            {"classes": ("a",)},
            UsageError,
            "--output-name",
        ),
        (
            ForeignNetwork("segmenter"),
            {"kind": ModelKind.GATE, "good_index": 0},
            ModelError,
            "no output fits",
        ),
        (
            ForeignNetwork(),
            {"kind": ModelKind.SEGMENTER, "classes": ("a",)},
            ModelError,
            "no output fits",
        ),
        (
            ForeignNetwork("segmenter"),
            {"classes": ("a",), "background": "none", "activation": "softmax"},
            UsageError,
            "every pixel defective",
        ),
    ],
)
def test_errors_name_the_remedy(
    net: ForeignNetwork,
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
    tmp_path: Path,
    samples: Path,
) -> None:
    asked = request(save_network(net, tmp_path), net, **changes)
    with pytest.raises(error, match=words):
        import_model(asked, tmp_path / "store", "m", samples)
    assert not list((tmp_path / "store").rglob("*"))


def test_logits_that_may_be_probabilities_require_an_option(tmp_path: Path, samples: Path) -> None:
    net = ForeignNetwork(outputs=1, ending="HardSigmoid")
    asked = request(save_network(net, tmp_path), net, output=None)
    with pytest.raises(UsageError, match="--output logits or --output probs"):
        import_model(asked, tmp_path / "store", "m", samples)
    done = import_model(
        request(save_network(net, tmp_path), net, output="probs"), tmp_path, "m", samples
    )
    assert done.equivalence.largest_errors["defect_prob"] < 1e-5


def test_files_that_are_not_a_network_are_rejected(tmp_path: Path, samples: Path) -> None:
    good = save_network(ForeignNetwork(), tmp_path).read_bytes()
    for name, data, words in (
        ("text.onnx", b"this is no network", "not an ONNX"),
        ("empty.onnx", b"", "no ONNX graph"),
        ("cut.onnx", good[: len(good) // 2], "truncated|no ONNX graph"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=words):
            import_model(
                request(tmp_path / name, ForeignNetwork()), tmp_path / "store", "m", samples
            )
    with pytest.raises(ModelError, match="no such file"):
        import_model(
            request(tmp_path / "absent.onnx", ForeignNetwork()), tmp_path / "store", "m", samples
        )


def test_two_inputs_or_class_indices_alone_are_rejected(tmp_path: Path, samples: Path) -> None:
    model = ForeignNetwork().build()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="has: input, more"):
        import_model(
            request(tmp_path / "two.onnx", ForeignNetwork()), tmp_path / "store", "m", samples
        )
    model = ForeignNetwork("segmenter", outputs=1, drops_map_axis=True).build()
    model.graph.node[-1].CopyFrom(
        helper.make_node("Cast", ["sq"], ["answer"], to=TensorProto.INT64)
    )
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    (tmp_path / "ids.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="class indices without probabilities"):
        import_model(
            request(tmp_path / "ids.onnx", ForeignNetwork("segmenter"), classes=("a",)),
            tmp_path / "store",
            "m",
            samples,
        )


def test_samples_are_required(tmp_path: Path) -> None:
    asked = request(save_network(ForeignNetwork(), tmp_path), ForeignNetwork())
    with pytest.raises(DataError, match="no such folder"):
        import_model(asked, tmp_path / "store", "m", tmp_path / "absent")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no readable image"):
        import_model(asked, tmp_path / "store", "m", tmp_path / "broken")


def test_an_unwritable_store_is_an_error(tmp_path: Path, samples: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        import_model(
            request(save_network(ForeignNetwork(), tmp_path), ForeignNetwork()),
            tmp_path / "store",
            "m",
            samples,
        )


# -- the command ----------------------------------------------------------------------------


def command(file: Path, samples: Path, store: Path, *more: str) -> Sequence[str]:
    return [
        "models",
        "import",
        str(file),
        "--kind",
        "gate",
        "--name",
        "g",
        "--size",
        f"{HEIGHT}x{WIDTH}",
        "--channels",
        "3",
        "--samples",
        str(samples),
        "--store",
        str(store),
        *more,
    ]


def test_the_command_prints_its_report(
    tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save_network(ForeignNetwork(), tmp_path)
    options = (
        "--color",
        "rgb",
        "--good-index",
        "0",
        "--mean",
        "0.485,0.456,0.406",
        "--std",
        "0.229,0.224,0.225",
        "--output",
        "logits",
    )
    assert main(command(file, samples, tmp_path / "store", *options)) == 0
    out = capsys.readouterr().out
    assert "found: layout nchw" in out
    assert "found: softmax" in out
    assert "equal: on 4 samples within 0.001" in out
    assert "defect_prob from" in out
    assert main(command(file, samples, tmp_path / "store", "--good-index", "0")) == 64
    assert "--color rgb" in capsys.readouterr().err
    assert main(command(file, samples, tmp_path / "store")) == 64
    err = capsys.readouterr().err
    assert "Give --color rgb" in err, "all that is missing at once"
    assert "Give --good-index I" in err
    assert main(["models", "import", str(file), "--kind", "segmenter"]) == 64
    missing = "--name NAME, --size HxW, --channels [1|3], --samples FOLDER, --classes A,B,C"
    assert f"these are missing: {missing}." in capsys.readouterr().err
    named = (*options[:2], "--output", "logits", "--classes", "ok,pit", "--good-class")
    assert main(command(file, samples, tmp_path / "store", *named, "ok")) == 0
    assert main(command(file, samples, tmp_path / "store", *named, "good")) == 64
    assert "--classes names ok, pit" in capsys.readouterr().err
    assert main(command(file, samples, tmp_path / "store", *named, "ok", "--good-index", "0")) == 64
    kinds = (*options[:2], "--output", "logits", "--classes", "pit,burr", "--kinds-only")
    assert main(command(file, samples, tmp_path / "kinds", *kinds)) == 0
    assert "most probable kind: pit of" in capsys.readouterr().out
    assert main(command(file, samples, tmp_path / "store", "--mean", "a,b")) == 64
    assert main(command(tmp_path / "no.onnx", samples, tmp_path / "store", *options)) == 65
    assert main(command(file, tmp_path / "no", tmp_path / "store", *options)) == 65
