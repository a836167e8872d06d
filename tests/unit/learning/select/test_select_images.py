"""Selecting images: the uncertain, the unlike and the disputed, each once, with its reason."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.cli.main import main
from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.learning.datasets.example_set import write_example_set
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import file_digests, split_document
from edgeinspect.learning.evaluate.offline_inspector import OfflineInspector
from edgeinspect.learning.evaluate.open_model import build_inspector, load_engine
from edgeinspect.learning.evaluate.training_images import NOT_ASKED, training_knowledge
from edgeinspect.learning.select import (
    open_candidates,
    select_images,
    write_selection,
    write_selection_sheet,
)
from edgeinspect.learning.select.descriptors import describe_thumbnail, scale_descriptors
from edgeinspect.learning.select.reasons import (
    MAX_MARGIN,
    ImageMeasurement,
    ModelOpinion,
    ask_model,
    gate_opinion,
    region_opinion,
    unknown_opinion,
)
from edgeinspect.pipeline.inspection import UnknownLimits
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import make_image, write_dataset

needs.library("onnxruntime")


# -- opinions ---------------------------------------------------------------------------------


def test_a_gate_is_most_uncertain_at_its_threshold() -> None:
    values = [gate_opinion([np.array([p])], 0.8).uncertainty for p in (0.01, 0.5, 0.8, 0.95, 1.0)]
    assert values[2] == pytest.approx(1)
    assert values[0] < values[1] < values[2] > values[3] > values[4]
    assert (
        gate_opinion([np.array([0.9])], 0.8).margin
        > 0
        > gate_opinion([np.array([0.7])], 0.8).margin
    )


def test_probabilities_of_classes_add_their_entropy() -> None:
    sure = gate_opinion([np.array([0.999]), np.array([[0.98, 0.01, 0.01]])], 0.5)
    torn = gate_opinion([np.array([0.999]), np.array([[0.34, 0.33, 0.33]])], 0.5)
    assert torn.uncertainty > 0.99 > 0.3 > sure.uncertainty
    assert "entropy of the classes 1.00" in torn.words
    other = gate_opinion([np.array([0.999]), np.array([[7.0, 2.0]])], 0.5)
    assert other.entropy == 0, "outputs that are no probabilities are not taken for them"


def test_a_gate_that_gives_no_number_is_uncertain() -> None:
    assert gate_opinion([np.array([np.nan])], 0.5).uncertainty == 1


def test_a_region_counts_by_the_limit_that_it_misses() -> None:
    limits = [("pit", 0.5, 100.0), ("scar", 0.5, 100.0)]

    def opinion(scores: list[float], areas: list[float]) -> ModelOpinion:
        return region_opinion(np.array(scores), np.array(areas), limits)

    assert opinion([0.9, 0.9], [0, 0]).margin == -MAX_MARGIN
    assert opinion([0.5, 0.0], [400, 0]).uncertainty == pytest.approx(1)
    assert opinion([0.99, 0.0], [100, 0]).uncertainty == pytest.approx(1)
    small = opinion([0.99, 0.0], [10, 0])
    assert small.margin == pytest.approx(np.log(0.1))
    assert small.words == "pit 0.99 in 10 px, limits 0.5 and 100 px"
    assert opinion([0.99, 0.4], [10, 200]).words.startswith("scar")
    assert opinion([0.99, 0.9], [1000, 500]).margin > 2


def good_parts_limits(reject_at: float = 0.5, area_px: float = 0) -> UnknownLimits:
    return UnknownLimits("unknown", 1, reject_at, area_px, 5, 1, True, False, 8)


def test_a_good_parts_model_is_uncertain_at_its_threshold_and_sure_of_ordinary_parts() -> None:
    values = [unknown_opinion(p, 0, good_parts_limits()).uncertainty for p in (0.1, 0.3, 0.5, 0.6)]
    assert values[2] == pytest.approx(1)
    assert values[0] < 0.05 < values[1] < values[2] > values[3]
    above, below = (unknown_opinion(p, 0, good_parts_limits(0.8)).margin for p in (0.81, 0.79))
    assert above > 0 > below
    assert unknown_opinion(1.0, 0, good_parts_limits()).margin == MAX_MARGIN
    assert unknown_opinion(float("nan"), 0, good_parts_limits()).uncertainty == 1


def test_a_good_parts_model_counts_by_the_limit_that_it_misses() -> None:
    small = unknown_opinion(0.99, 10, good_parts_limits(area_px=100))
    assert small.margin == pytest.approx(np.log(0.1))
    assert small.words == ("defect_prob 0.990, threshold 0.500, largest region 10 px, limit 100 px")
    assert unknown_opinion(0.99, 0, good_parts_limits(area_px=100)).margin < 0
    assert unknown_opinion(0.99, 200, good_parts_limits(area_px=100)).margin > 0


def test_models_disagree_most_if_their_decisions_differ() -> None:
    def measured(*margins: float) -> ImageMeasurement:
        opinions = tuple(ModelOpinion(margin, 0.0, "") for margin in margins)
        return ImageMeasurement(opinions, np.zeros(1, np.float32))

    assert measured(2, 2).disagreement == 0
    assert measured(-4, -8).disagreement < measured(0.1, -0.1).disagreement
    assert measured(0.1, -0.1).disagreement < measured(5, -5).disagreement


def test_descriptors_of_like_frames_are_near() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(60, 90, (40, 60, 1), np.uint8)
    frames = [base + np.uint8(each) for each in range(6)]
    odd = base.copy()
    odd[5:30, 5:30] = 250
    space = scale_descriptors(np.stack([describe_thumbnail(frame) for frame in [*frames, odd]]))
    distances = np.linalg.norm(space - space[0], axis=1)
    assert distances[-1] == max(distances)
    assert np.isfinite(scale_descriptors(np.ones((3, 5), np.float32))).all()


# -- selecting --------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    graphs.install(root, graphs.gate(), thresholds={"suspect": 0.3, "reject": 0.9, "degraded": 0.5})
    limits = {name: {"score": 0.01, "area_px": 40} for name in graphs.CLASSES}
    graphs.install(root, graphs.segmenter(), name="tiny-seg", kind="segmenter", thresholds=limits)
    graphs.install_good_parts(root, thresholds={"reject": 0.9, "area_px": 40})
    return root


@pytest.fixture
def gate(store: Path) -> Iterator[OfflineInspector]:
    built = build_inspector(load_engine("tiny-gate", "ort", store=ModelStore(store)))
    yield built
    built.close()


@pytest.fixture
def segmenter(store: Path) -> Iterator[OfflineInspector]:
    built = build_inspector(load_engine("tiny-seg", "ort", store=ModelStore(store)))
    yield built
    built.close()


@pytest.fixture
def good_parts(store: Path) -> Iterator[OfflineInspector]:
    built = build_inspector(load_engine("tiny-unknown", "ort", store=ModelStore(store)))
    yield built
    built.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve good images, one of them twice, two dark ones, and one that cannot be read."""
    root = tmp_path / "frames"
    root.mkdir()
    for index in range(12):
        cv2.imwrite(str(root / f"good{index:02}.png"), make_image("good", index)[0])
    cv2.imwrite(str(root / "again.png"), make_image("good", 3)[0][:, ::-1])
    for index in range(2):
        cv2.imwrite(str(root / f"dark{index}.png"), make_image("dark", 20 + index)[0])
    (root / "broken.png").write_bytes(b"\x89PNG\r\n")
    return root


def test_unlike_images_come_first_and_duplicates_once(gate: OfflineInspector, folder: Path) -> None:
    candidates = open_candidates(folder, NOT_ASKED)
    done = select_images(candidates, [gate], 40, ["unlike"])
    names = [one.image.name for one in done.selected]
    assert {"dark0.png", "dark1.png"} <= set(names[:3])
    assert len(names) == len(set(names)) == 14
    assert len({"again.png", "good03.png"} & set(names)) == 1
    assert done.duplicates == 1
    assert list(done.unreadable) == ["broken.png"]
    assert done.considered == 16
    assert all(
        one.criterion == "unlike" and "as a typical image" in one.reason for one in done.selected
    )


@pytest.mark.slow
def test_parts_of_one_product_are_not_taken_for_duplicates(
    gate: OfflineInspector, tmp_path: Path
) -> None:
    write_example_set(tmp_path / "washers", 40, seed=3)
    candidates = open_candidates(tmp_path / "washers", NOT_ASKED)
    done = select_images(candidates, [gate], 40, ["unlike"])
    assert len(done.selected) == 40
    copy = cv2.imread(str(candidates.images[7].path), cv2.IMREAD_GRAYSCALE)
    folder = candidates.images[7].path.parent
    cv2.imwrite(str(folder / "turned.png"), np.rot90((copy * 0.9).astype(np.uint8)))
    again = select_images(open_candidates(folder, NOT_ASKED), [gate], 41, ["unlike"])
    assert (len(again.selected), again.duplicates) == (40, 1)


def test_labelled_images_are_centres(gate: OfflineInspector, folder: Path, tmp_path: Path) -> None:
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    for index in (20, 21):
        cv2.imwrite(str(labelled / f"{index}.png"), make_image("dark", index)[0])
    candidates, known = (open_candidates(each, NOT_ASKED) for each in (folder, labelled))
    names = [
        one.image.name for one in select_images(candidates, [gate], 40, ["unlike"], known).selected
    ]
    assert set(names[-2:]) == {"dark0.png", "dark1.png"}, "nothing is left to learn from them"


def test_criteria_take_turns(gate: OfflineInspector, folder: Path) -> None:
    probs = {}
    for file in folder.glob("*.png"):
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if image is not None:
            probs[file.name] = float(gate.inspect(image[..., None]).prob or 0)
    limit = sorted(probs.values())[len(probs) // 2]
    rules = replace(gate.rules, gate=replace(gate.rules.gate, reject_at=limit))
    torn = OfflineInspector(gate=gate.gate, segmenter=None, rules=rules, label="torn")
    done = select_images(open_candidates(folder, NOT_ASKED), [torn], 4)
    assert [one.criterion for one in done.selected] == ["uncertain", "unlike"] * 2
    first = done.selected[0]
    assert probs[first.image.name] == pytest.approx(limit, abs=1e-6)
    assert first.reason.startswith("defect_prob ")


def test_clear_cases_are_not_uncertain(gate: OfflineInspector, folder: Path) -> None:
    rules = replace(gate.rules, gate=replace(gate.rules.gate, reject_at=1 - 1e-6))
    sure = OfflineInspector(gate=gate.gate, segmenter=None, rules=rules, label="sure")
    assert not select_images(open_candidates(folder, NOT_ASKED), [sure], 4, ["uncertain"]).selected


def test_models_that_disagree(
    gate: OfflineInspector, segmenter: OfflineInspector, folder: Path
) -> None:
    rules = replace(gate.rules, gate=replace(gate.rules.gate, reject_at=1 - 1e-6))
    blind = OfflineInspector(gate=gate.gate, segmenter=None, rules=rules, label="blind")
    candidates = open_candidates(folder, NOT_ASKED)
    done = select_images(candidates, [blind, segmenter], 2, ["disagree"])
    assert {one.image.name for one in done.selected} == {"dark0.png", "dark1.png"}
    assert done.selected[0].reason == "one rejects, one passes"
    assert len(done.selected[0].opinions) == 2
    with pytest.raises(UsageError, match="cannot disagree"):
        select_images(candidates, [gate], 2, ["disagree"])


def test_a_good_parts_model_selects_and_disagrees_as_it_decides(
    gate: OfflineInspector, good_parts: OfflineInspector, folder: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(folder / "bright.png"), make_image("bright", 30)[0])
    candidates = open_candidates(folder, NOT_ASKED)
    done = select_images(candidates, [good_parts], 40, ["unlike"])
    assert {"bright.png", "dark0.png", "dark1.png"} <= {one.image.name for one in done.selected}
    for one in done.selected:
        frame = cv2.imread(str(one.image.path), cv2.IMREAD_GRAYSCALE)[..., None]
        opinion = ask_model(good_parts, frame)
        assert (opinion.margin > 0) is good_parts.inspect(frame).is_rejected
        assert opinion.words == one.opinions[0]
    blind = replace(gate.rules, gate=replace(gate.rules.gate, reject_at=1 - 1e-6))
    passing = OfflineInspector(gate=gate.gate, segmenter=None, rules=blind, label="passing")
    disputed = select_images(candidates, [passing, good_parts], 1, ["disagree"])
    assert disputed.selected[0].image.name == "bright.png"
    write_selection_sheet(tmp_path / "sheet.png", done, candidates, [good_parts])
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] == 1800


def test_images_of_the_training_are_left_out(
    gate: OfflineInspector, store: Path, tmp_path: Path
) -> None:
    root = write_dataset(tmp_path / "set", ["good", "dark"] * 6)
    data = split_dataset(open_dataset(root), 1, ignore_existing=True)
    version = store / "tiny-gate" / "1"
    (version / "split.json").write_bytes(split_document(data, 1, digests=file_digests(data)))
    knowledge = training_knowledge(gate.specs)
    with pytest.raises(DataError, match="all 12 images are labelled"):
        open_candidates(root, knowledge)
    cv2.imwrite(str(root / "images" / "new.png"), make_image("bright", 3)[0])
    candidates = open_candidates(root / "images", knowledge)
    assert [image.name for image in candidates.images] == ["new.png"]
    assert candidates.labelled == {"tiny-gate/1": 12}
    done = select_images(candidates, [gate], 5)
    assert len(done.selected) == 1


def test_nothing_to_select_from_is_an_error(gate: OfflineInspector, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        open_candidates(tmp_path / "empty", NOT_ASKED)
    (tmp_path / "empty" / "a.png").write_bytes(b"\x89PNG\r\n")
    candidates = open_candidates(tmp_path / "empty", NOT_ASKED)
    with pytest.raises(DataError, match="none of its 1 images can be read"):
        select_images(candidates, [gate], 1)


# -- what is written --------------------------------------------------------------------------


def test_a_folder_gets_images_and_table(
    gate: OfflineInspector, folder: Path, tmp_path: Path
) -> None:
    (folder / "more").mkdir()
    cv2.imwrite(str(folder / "more" / "dark0.png"), make_image("bright", 30)[0])
    done = select_images(open_candidates(folder, NOT_ASKED), [gate], 40, ["unlike"])
    copies = write_selection(done, tmp_path / "out", ["tiny-gate/1"])
    for one in done.selected:
        assert Path(copies[one.image.name]).read_bytes() == one.image.path.read_bytes()
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"dark0.png", "dark0-2.png", "selection.csv"} <= files
    with (tmp_path / "out" / "selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [one.image.name for one in done.selected]
    assert rows[0]["tiny-gate/1"].startswith("defect_prob")
    with pytest.raises(OutputError, match="is not empty"):
        write_selection(done, tmp_path / "out", ["tiny-gate/1"])


def test_the_sheet_holds_every_image_and_a_segmenter_s_outlines(
    segmenter: OfflineInspector, folder: Path, tmp_path: Path
) -> None:
    candidates = open_candidates(folder, NOT_ASKED)
    done = select_images(candidates, [segmenter], 9)
    write_selection_sheet(tmp_path / "sheet.png", done, candidates, [segmenter])
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 1800
    few = select_images(candidates, [segmenter], 1)
    write_selection_sheet(tmp_path / "few.png", few, candidates, [segmenter])
    assert cv2.imread(str(tmp_path / "few.png")).shape[0] < sheet.shape[0]
    with pytest.raises(OutputError, match="cannot be written"):
        write_selection_sheet(tmp_path / "no" / "sheet.png", done, candidates, [segmenter])


def test_the_command(
    store: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["data", "select", str(folder), "--store", str(store), "--quiet", "--count", "5"]
    table = tmp_path / "images.csv"
    both = ["--model", "tiny-gate", "--model", "tiny-seg"]
    assert main([*base, *both, "--out", str(table), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "edgeinspect.data_selection/1"
    assert document["models"] == ["tiny-gate/1", "tiny-seg/1"]
    assert len(document["selected"]) == 5 == len(table.read_text().splitlines()) - 1
    assert document["unreadable"].keys() == {"broken.png"}
    assert main([*base, "--model", "tiny-gate", "--by", "disagree"]) == 64
    assert "Give --model twice" in capsys.readouterr().err
    assert main([*base, *both, "--sheet", str(tmp_path / "sheet.png")]) == 0
    shown = capsys.readouterr().out
    assert "5 images to label, of 16" in shown
    assert "broken.png" in shown


def test_a_name_that_is_no_text_is_copied_under_a_printable_one(
    gate: OfflineInspector, tmp_path: Path
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for index, name in enumerate((b"bol\xe9.png", b"plain.png")):
        (folder / os.fsdecode(name)).write_bytes(
            cv2.imencode(".png", make_image("dark", index)[0])[1].tobytes()
        )
    done = select_images(open_candidates(folder, NOT_ASKED), [gate], 2, ["unlike"])
    write_selection(done, tmp_path / "out", [])
    with (tmp_path / "out/selection.csv").open(encoding="utf-8", newline="") as table:
        files = {row["file"] for row in csv.DictReader(table)}
    assert files == {"bol_xE9.png", "plain.png"}
    assert files == {path.name for path in (tmp_path / "out").iterdir()} - {"selection.csv"}
