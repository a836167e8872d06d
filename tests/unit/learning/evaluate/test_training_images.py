"""The training's own split is used, and a proof on its images is noticed, whatever their names."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from edgeinspect.cli.main import main
from edgeinspect.domain.model import ModelSpec
from edgeinspect.errors import DataError, ModelError
from edgeinspect.learning.calibrate.frames import count_training_images, open_frames
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.split import split_dataset
from edgeinspect.learning.datasets.split_file import (
    file_digest,
    file_digests,
    split_document,
    write_split,
)
from edgeinspect.learning.evaluate.open_dataset import open_image_source
from edgeinspect.learning.evaluate.open_model import load_engine
from edgeinspect.learning.evaluate.training_images import (
    find_training_images,
    inherited_files,
    training_knowledge,
)
from edgeinspect.storage.model_store import ModelStore
from tests import graphs, needs
from tests.unit.learning.evaluate.small_datasets import write_dataset

needs.library("onnxruntime")


@pytest.fixture
def trained(tmp_path: Path) -> Dataset:
    """A set whose own split is not the training's."""
    root = write_dataset(tmp_path / "set", ["good", "dark"] * 10, split="train")
    return split_dataset(open_dataset(root), 3, ignore_existing=True)


@pytest.fixture
def version(tmp_path: Path, trained: Dataset) -> Path:
    """A gate in a store that was trained on it."""
    graphs.install(tmp_path / "store", graphs.gate(), thresholds={"reject": 0.5})
    folder = tmp_path / "store" / "tiny-gate" / "1"
    (folder / "split.json").write_bytes(split_document(trained, 3, digests=file_digests(trained)))
    return folder


@pytest.fixture
def spec_of(tmp_path: Path, version: Path) -> Callable[[], ModelSpec]:
    def read() -> ModelSpec:
        engine = load_engine("tiny-gate", "ort", store=ModelStore(version.parent.parent))
        engine.close()
        return engine.spec

    return read


def renamed_copy(dataset: Dataset, to: Path) -> Path:
    shutil.copytree(dataset.root, to)
    for folder in ("images", "masks"):
        for file in sorted((to / folder).iterdir()):
            file.rename(file.with_name(file.name.replace("p0", "n0")))
    index = to / "index.csv"
    index.write_text(index.read_text().replace("p0", "n0"))
    return to


def test_a_version_uses_the_split_of_its_training(
    trained: Dataset, spec_of: Callable[[], ModelSpec]
) -> None:
    spec = spec_of()
    source = open_image_source(str(trained.root), spec, training=training_knowledge([spec]))
    assert source.image_count == len(trained.in_splits("test")) < 20
    assert source.training_images == 0
    assert "split as in the training of " in source.notes[-1]


@pytest.mark.parametrize("split", ["train", "all"])
def test_training_images_are_refused_and_allowed(
    trained: Dataset, spec_of: Callable[[], ModelSpec], split: str
) -> None:
    spec = spec_of()
    knowledge = training_knowledge([spec])
    count = len(trained.in_splits("train"))
    with pytest.raises(DataError, match=rf"{count} of \d+ images are training images of tiny-gate"):
        open_image_source(str(trained.root), spec, split=split, training=knowledge)
    source = open_image_source(
        str(trained.root), spec, split=split, training=knowledge, on_training_images=True
    )
    assert source.training_images == count
    assert source.notes[-1].startswith(f"{count} of ")


def test_renamed_training_images_are_known_by_their_content(
    trained: Dataset, spec_of: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    spec = spec_of()
    knowledge = training_knowledge([spec])
    copy = renamed_copy(trained, tmp_path / "copy")
    source = open_image_source(str(copy), spec, training=knowledge)
    assert source.image_count == len(trained.in_splits("test"))
    with pytest.raises(DataError, match="training images"):
        open_image_source(str(copy), spec, split="train", training=knowledge)


def test_new_images_keep_their_split_or_are_test(
    trained: Dataset, spec_of: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    knowledge = training_knowledge([spec_of()])
    other = open_dataset(write_dataset(tmp_path / "new", ["bright"] * 3, split="val"))
    alike = {sample.name for sample in trained.samples} & {one.name for one in other.samples}
    assert alike, "names alone would take them for training images"
    kept, names = knowledge.split(other, None)
    assert not names
    assert [sample.split for sample in kept.samples] == ["val"] * 3
    assert "none of these files is one of the training's, byte by byte" in kept.notes[-1]


def test_a_set_that_has_grown_is_split_as_before(
    trained: Dataset, spec_of: Callable[[], ModelSpec]
) -> None:
    knowledge = training_knowledge([spec_of()])
    first = trained.samples[0]
    shutil.copy(trained.samples[1].path, first.path.with_name("zcopy.png"))
    (first.path.with_name("znew.png")).write_bytes(first.path.read_bytes() + b" ")
    grown = [
        replace(first, name=name, path=first.path.with_name(name), split=None)
        for name in ("zcopy.png", "znew.png")
    ]
    data = trained.with_samples([*(replace(s, split=None) for s in trained.samples), *grown])
    done, names = knowledge.split(data, None)
    assert [s.split for s in done.samples[:-2]] == [s.split for s in trained.samples]
    assert [s.split for s in done.samples[-2:]] == [trained.samples[1].split, "test"]
    assert ("zcopy.png" in names) == (trained.samples[1].split == "train")
    assert "1 image is new since then, and in `test`" in done.notes[-1]


def test_a_split_file_decides_but_hides_no_training_image(
    trained: Dataset, spec_of: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    spec = spec_of()
    knowledge = training_knowledge([spec])
    write_split(tmp_path / "other.json", split_dataset(trained, 4, ignore_existing=True), 4)
    with pytest.raises(DataError, match="training images of tiny-gate/1") as refused:
        open_image_source(
            str(trained.root), spec, split_file=tmp_path / "other.json", training=knowledge
        )
    assert "Leave --split-file out" in str(refused.value)


def test_a_copy_that_the_training_had_in_test_counts_as_train(
    trained: Dataset, spec_of: Callable[[], ModelSpec], version: Path
) -> None:
    learned, tested = trained.in_splits("train")[0], trained.in_splits("test")[0]
    shutil.copy(learned.path, tested.path)
    (version / "split.json").write_bytes(split_document(trained, 3, digests=file_digests(trained)))
    spec = spec_of()
    source = open_image_source(str(trained.root), spec, training=training_knowledge([spec]))
    assert source.image_count == len(trained.in_splits("test")) - 1
    assert source.training_images == 0
    assert (
        "1 image of `val` and `test` is a copy of training images, and in `train` here: "
        f"{tested.name}" in source.notes
    )


def test_a_test_image_that_was_overwritten_with_a_training_image_is_no_proof(
    trained: Dataset, spec_of: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    spec = spec_of()
    write_split(tmp_path / "split.json", trained, 3)
    for number, sample in enumerate(trained.in_splits("test")):
        shutil.copy(trained.in_splits("train")[number].path, sample.path)
    with pytest.raises(DataError, match=r"no image in split 'test' .* are copies of training"):
        open_image_source(str(trained.root), spec, training=training_knowledge([spec]))
    count = len(trained.in_splits("test"))
    with pytest.raises(DataError, match=f"{count} of {count} images are training images of tiny"):
        open_image_source(
            str(trained.root),
            spec,
            split_file=tmp_path / "split.json",
            training=training_knowledge([spec]),
        )
    frames = open_frames(
        f"{trained.root}#test",
        spec,
        split_file=tmp_path / "split.json",
        training=(knowledge := training_knowledge([spec])),
    )
    assert count_training_images(frames, knowledge) == count


def test_each_file_is_read_once_for_its_content(
    trained: Dataset, spec_of: Callable[[], ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr("edgeinspect.learning.datasets.split_file.file_digest", counted)
    spec = spec_of()
    knowledge = training_knowledge([spec, spec])
    for _ in range(2):
        knowledge.split(trained, None)
    # By name alone, the others are training images already.
    assert sorted(read) == sorted(sample.path for sample in trained.in_splits("val", "test"))


def test_nothing_is_known_of_a_foreign_model(
    trained: Dataset, spec_of: Callable[[], ModelSpec], version: Path
) -> None:
    (version / "split.json").unlink()
    spec = spec_of()
    assert find_training_images(spec) is None
    source = open_image_source(
        str(trained.root), spec, split="all", training=training_knowledge([spec])
    )
    assert source.training_images is None
    assert source.notes[-1] == "nothing is known of the images that tiny-gate/1 was trained on"


def test_another_split_file_than_the_manifest_names_is_refused(
    version: Path, spec_of: Callable[[], ModelSpec]
) -> None:
    manifest = yaml.safe_load((version / "manifest.yaml").read_text())
    digest = hashlib.sha256((version / "split.json").read_bytes()).hexdigest()
    manifest["training"] = {"split_sha256": digest}
    (version / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    assert find_training_images(spec_of()) is not None
    with (version / "split.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelError, match="is not the split that the model was trained with"):
        find_training_images(spec_of())


def test_a_split_file_of_an_older_run_is_known_by_names_only(
    trained: Dataset, spec_of: Callable[[], ModelSpec], version: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(version, run / "name" / "1")
    (run / "name" / "1" / "split.json").unlink()
    (run / "checkpoint.pt").touch()
    write_split(run / "split.json", trained, 3)
    engine = load_engine(str(run), "ort")
    engine.close()
    images = find_training_images(engine.spec)
    assert images is not None
    assert images.file == run / "split.json"
    knowledge = training_knowledge([engine.spec])
    assert "copies of its images are not noticed" in knowledge.split(trained, None)[0].notes[-1]
    copy = open_dataset(renamed_copy(trained, tmp_path / "copy"))
    assert "some of these may have been trained on" in knowledge.split(copy, None)[0].notes[-1]
    assert knowledge.count_files([sample.path for sample in copy.samples]) is None


def test_a_derived_version_inherits_the_file(
    version: Path, spec_of: Callable[[], ModelSpec]
) -> None:
    assert inherited_files(spec_of()) == {"split.json": (version / "split.json").read_bytes()}
    (version / "split.json").unlink()
    assert inherited_files(spec_of()) == {}


def test_calibration_takes_frames_from_train_and_its_proof_from_the_others(
    trained: Dataset, spec_of: Callable[[], ModelSpec]
) -> None:
    spec = spec_of()
    knowledge = training_knowledge([spec])

    def names(*parts: str) -> set[str]:
        return set(
            open_frames(str(trained.root), spec, training=knowledge, training_parts=parts).names
        )

    assert names("train") == {sample.name for sample in trained.in_splits("train")}
    assert names("val", "test") == {sample.name for sample in trained.in_splits("val", "test")}


def test_training_frames_in_a_plain_folder_are_counted(
    trained: Dataset, spec_of: Callable[[], ModelSpec], tmp_path: Path
) -> None:
    spec = spec_of()
    knowledge = training_knowledge([spec])
    folder = tmp_path / "plain"
    folder.mkdir()
    for number, sample in enumerate(trained.samples):
        shutil.copy(sample.path, folder / f"frame{number}.png")
    frames = open_frames(str(folder), spec, training=knowledge)
    assert count_training_images(frames, knowledge) == len(trained.in_splits("train"))
    strip = open_frames("strip:1:3", spec, training=knowledge)
    assert count_training_images(strip, knowledge) is None


def test_evaluate_and_compare_refuse_and_say_so(
    trained: Dataset, version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(version.parent.parent), "--data", str(trained.root), "--quiet"]
    for command in (["evaluate", "tiny-gate"], ["compare", "tiny-gate", "tiny-gate"]):
        assert main([*command, *store, "--split", "train"]) == 65
        assert "--on-training-images" in capsys.readouterr().err
        allowed = [*command, *store, "--split", "train", "--on-training-images", "--json"]
        assert main(allowed) == 0
        document = json.loads(capsys.readouterr().out)
        count = len(trained.in_splits("train"))
        assert document["training_images"] == count
        assert f"{count} of {count} images are training images" in " ".join(document["notes"])
