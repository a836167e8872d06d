"""One training from a data set to an exported, measured model in a run folder.

RUN/run.json         recipe, data and versions: a run resumes only with the same
RUN/split.json       the split of each image, its group, and a digest of its file
RUN/checkpoint.pt    everything a killed training needs to resume
RUN/curve.csv        loss and validation score by step; curve.svg plots it
RUN/<name>/1/        the exported model, for a store; with a copy of split.json
RUN/line.yaml        a line with this model, and the pair's: see `line_file`
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.domain import Decides
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import (
    TEST,
    TRAIN,
    VAL,
    Dataset,
    ImageArrays,
    SkippedImage,
    common_size,
    describe_change,
    exact_copies,
    file_digests,
    group_samples,
    has_class,
    infer_channels,
    load_arrays,
    load_split,
    open_dataset,
    split_dataset,
    without_copies_of_train,
    write_split,
)
from edgeinspect.learning.evaluate import SPLIT_FILE_NAME
from edgeinspect.learning.train import architectures, defaults, distributed
from edgeinspect.learning.train.allocator import keep_freed_memory
from edgeinspect.learning.train.checkpoint import RunFolder, load_state_into, read_run_identity
from edgeinspect.learning.train.data_record import brightness_statistics, dataset_digest
from edgeinspect.learning.train.encoder_networks import EncoderGate
from edgeinspect.learning.train.encoders import NO_WEIGHTS, is_encoder
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.frozen_head import fit_frozen_head
from edgeinspect.learning.train.labelled_line import write_labelled_line
from edgeinspect.learning.train.learning_curve import draw_learning_curve
from edgeinspect.learning.train.pairing import check_pair_data, read_pair_split, with_pair
from edgeinspect.learning.train.plan import (
    TrainingConfig,
    TrainingFacts,
    default_recipe,
    output_stride,
)
from edgeinspect.learning.train.preconditions import check_frame, check_labels, check_options
from edgeinspect.learning.train.progress import StageProgress, StepReport, ignore_progress
from edgeinspect.learning.train.recipe import TrainingRecipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, TrainingTask
from edgeinspect.learning.train.write_version import (
    VersionWriter,
    describe_fit,
    export_gate,
    export_segmenter,
)
from edgeinspect.system import TEXT_BYTES_MAX, claim_folder, read_regular

_MORE_IMAGES_REMEDY = (
    "Give more images, or a split of your own with --split-file (see: edgeinspect data split)"
)


@dataclass(frozen=True, slots=True)
class PreparedTraining:
    """Data, network and recipe of a training."""

    data: Dataset
    digests: Mapping[str, str]
    """Of its image files, by name."""
    images: dict[str, ImageArrays]
    """By split; `val` and `test` without copies of images in `train`."""
    recipe: TrainingRecipe
    net: nn.Module
    task: TrainingTask
    architecture: str
    stride: int
    """Of the class map; 1 for a gate."""
    ignore_black: bool
    """Whether letterboxing adds black borders."""
    left_out: tuple[SkippedImage, ...] = ()
    """Images that are not used, and why."""
    kinds: int = 0
    """Number of kinds of defects that a gate tells apart; 0: defective or good."""

    @property
    def decides(self) -> Decides:
        """`KINDS` for a gate that has learned from no good image."""
        has_good = not self.images[TRAIN].defective.all()
        return Decides.DEFECTS if has_good or not self.kinds else Decides.KINDS


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training wrote and measured."""

    accuracy: dict[str, Any]
    """On the test split, measured with the exported graph; empty without one."""
    line: Path | None
    """The line file; None for a gate that has learned from no good image."""
    has_masks: bool
    """Of the data set: a segmenter can be trained on it."""
    has_test: bool
    """The data set has a test split."""


def train_model(
    config: TrainingConfig,
    on_progress: StageProgress = ignore_progress,
    on_left_out: Callable[[Sequence[SkippedImage]], None] = lambda left_out: None,
) -> TrainingResult | None:
    """Train, export and measure one model; `torchrun` may run it in several processes.

    Args:
        config: What to train.
        on_progress: Called with each image read and each step.
        on_left_out: Called before the first step with the unusable images.

    Returns:
        What was written and measured; None in all processes but the first.

    Raises:
        UsageError, ModelError, MissingExtraError: As `check_options`, before an image is read.
        DataError: Unusable images, a loss that became NaN, or another run in the folder.
        OutputError: The folder holds another training, another process trains into it, or the
            disk is full.
    """
    distributed.set_thread_count(config.threads)
    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.process_group())
        check_options(config)
        config = with_pair(config)
        if distributed.rank() == 0:  # for all processes of this training
            stack.enter_context(claim_folder(config.out))
        prepared = prepare_training(config, on_progress)
        on_left_out(prepared.left_out)
        started = time.monotonic()
        average = _fit_network(config, prepared, on_progress)
        if distributed.rank() != 0:
            return None
        return _export_and_measure(config, prepared, average, started, on_progress)


def prepare_training(config: TrainingConfig, on_progress: StageProgress) -> PreparedTraining:
    """Open the data set, split it, decode it, and build the network."""
    data = open_dataset(
        config.data,
        config.layout,
        good_classes=config.good_classes,
        draws_boxes=config.draws_boxes,
    )
    digests = file_digests(data)
    if config.split_file is not None:
        data = read_pair_split(config, config.split_file, data)
    else:
        data = split_dataset(
            group_samples(data, config.groups), config.seed, groups=exact_copies(digests)
        )
    usable = without_copies_of_train(data, digests)
    check_pair_data(config, data, dataset_digest(data))
    check_labels(config, data)
    size = config.size or common_size(data)
    check_frame(config, size)
    channels = config.channels or infer_channels(data)
    images = {
        name: load_arrays(
            data,
            usable.in_splits(name),
            height_px=size[0],
            width_px=size[1],
            channels=channels,
            cache=config.out / "cache",
            progress=lambda done, name=name: on_progress(  # type: ignore[misc]
                f"read {name}", done, len(usable.in_splits(name))
            ),
        )
        for name in (TRAIN, VAL, TEST)
        if usable.in_splits(name)
    }
    left_out = (*usable.skipped, *(one for part in images.values() for one in part.skipped))
    for name in (TRAIN, VAL):
        if name not in images or not len(images[name]):
            copies = "" if not data.in_splits(name) else ": all are broken, or copies of `train`"
            raise DataError(
                f"has no image in split '{name}'{copies}",
                where=str(config.data),
                remedy=_MORE_IMAGES_REMEDY,
            )
    train = images[TRAIN]
    name = config.architecture or defaults.of(config.kind).architecture
    recipe = default_recipe(
        config,
        TrainingFacts(
            size,
            len(train),
            len(images[VAL]),
            has_masks=has_class(train.masks),
            has_good=not bool(train.defective.all()),
            has_encoder=is_encoder(name),
        ),
    )
    torch.manual_seed(config.seed)
    if config.kind == "gate":
        kinds = _count_kinds(config, data, images)
        if not kinds:
            _check_both_labels(config, images)
        ignore_black = _has_black_borders(train.images)
        net = architectures.build_gate(
            name,
            channels=channels,
            weights=config.weights,
            ignore_black=ignore_black,
            kinds=kinds,
        )
        task: TrainingTask = GateTask(train, kinds)
        return PreparedTraining(
            data, digests, images, recipe, net, task, name, 1, ignore_black, left_out, kinds
        )
    _check_masks(config, train)
    stride = output_stride(config, size)
    task = SegmenterTask(train, stride, recipe.loss)
    net = architectures.build_segmenter(
        name, len(data.classes), channels=channels, stride=stride, weights=config.weights
    )
    return PreparedTraining(data, digests, images, recipe, net, task, name, stride, False, left_out)


def _count_kinds(config: TrainingConfig, data: Dataset, images: dict[str, ImageArrays]) -> int:
    """Return how many kinds of defects a gate is to tell apart.

    By default those of a set with several classes and without masks, which a segmenter could
    learn from, and with at most one kind in each image.

    Raises:
        DataError: Kinds are wanted, and the set has none, or none of a class.
    """
    has_masks = any(has_class(part.masks) for part in images.values())
    train = images[TRAIN]
    present = {int(kind) for kind in np.unique(train.kinds) if kind}
    is_natural = len(data.classes) > 1 and len(present) > 1 and not has_masks
    if not (is_natural if config.kinds is None else config.kinds):
        return 0
    missing = [name for index, name in enumerate(data.classes, 1) if index not in present]
    if missing:
        raise DataError(
            f"has no image in split 'train' whose only kind is {', '.join(missing)}",
            where=str(config.data),
            remedy="Give more images of it, or train a gate for good and defective: --no-kinds",
        )
    return len(data.classes)


def _check_both_labels(config: TrainingConfig, images: dict[str, ImageArrays]) -> None:
    """Check that every split has good and defective images, which a gate needs.

    Raises:
        DataError: A split lacks one of them.
    """
    for name, part in images.items():
        for label, exists in (
            ("defective", part.defective.any()),
            ("good", (~part.defective).any()),
        ):
            if len(part) and not exists:
                raise DataError(
                    f"has no {label} image in split '{name}', and a gate needs both",
                    where=str(config.data),
                    remedy=_MORE_IMAGES_REMEDY,
                )


def _check_masks(config: TrainingConfig, train: ImageArrays) -> None:
    """Check that some mask of the training split marks a defect, which a segmenter needs.

    Raises:
        DataError: None does.
    """
    if not has_class(train.masks):
        raise DataError(
            "no mask of split 'train' marks a defect, and a segmenter is trained on masks",
            where=str(config.data),
            remedy="See what the masks hold with: edgeinspect data inspect "
            + shlex.quote(str(config.data)),
        )


def _has_black_borders(images: NDArray[np.uint8]) -> bool:
    """Whether more than one image of a hundred has a black border from letterboxing."""
    count = 0
    for image in images:
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        count += any(not edge.any() for edge in edges)
    return count > len(images) / 100


def _fit_network(
    config: TrainingConfig, prepared: PreparedTraining, on_progress: StageProgress
) -> nn.Module:
    recipe = prepared.recipe
    folder = RunFolder(config.out)
    state = None
    if distributed.rank() == 0:
        state = folder.start_or_resume(
            _run_identity(config, prepared),
            resume=config.resume,
            describe_data_change=lambda: _describe_data_change(config.out, prepared),
        )
        write_split(
            config.out / SPLIT_FILE_NAME,
            prepared.data,
            config.seed,
            replaces=True,
            digests=prepared.digests,
        )
    if distributed.process_count() > 1:
        torch.distributed.barrier()
        if distributed.rank() != 0 and folder.checkpoint.exists():
            state = folder.load()
    report = StepReport(on_progress, recipe)
    report.start(state.step if state else 0)
    return fit(
        prepared.net,
        prepared.task,
        prepared.images[TRAIN],
        recipe,
        validation=prepared.images[VAL],
        run_folder=folder,
        state=state,
        initialise=lambda: _prepare_head(prepared, config.seed, on_progress),
        progress=report,
    )


def _describe_data_change(run: Path, prepared: PreparedTraining) -> str:
    """Return how the data differs from that of the split file of a run; empty if it has none."""
    file = run / SPLIT_FILE_NAME
    return describe_change(load_split(file), prepared.data) if file.is_file() else ""


def _prepare_head(prepared: PreparedTraining, seed: int, on_progress: StageProgress) -> None:
    """Fit the classifier of a gate on the frozen features of its pretrained encoder."""
    net = prepared.net
    if isinstance(net, EncoderGate) and net.body.adapt.has_fixed_statistics:
        fit_frozen_head(
            net,
            prepared.images[TRAIN],
            prepared.images[VAL],
            seed,
            flips=prepared.recipe.augment.flip_x,
            progress=lambda done, total: on_progress("frozen features", done, total, 0.0),
        )


def _export_and_measure(
    config: TrainingConfig,
    prepared: PreparedTraining,
    average: nn.Module,
    started: float,
    on_progress: StageProgress,
) -> TrainingResult:
    images, recipe = prepared.images, prepared.recipe
    fit_record = describe_fit(average, recipe, started)
    draw_learning_curve(config.out)
    run = {
        "run": f"{config.name}-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{config.data.name}, {len(images[TRAIN])} images",
        "data_sha256": dataset_digest(prepared.data),
        "architecture": prepared.architecture,
        **fit_record,
        "bits": prepared.data.bit_depth,
        "statistics": brightness_statistics(images[TRAIN]),
    }
    if weights := architectures.pretrained_weights(prepared.architecture, config.weights):
        run |= {"pretrained": weights.name, "pretrained_sha256": weights.sha256}
    is_gate = config.kind == "gate"
    classes = ("defect",) if is_gate and not prepared.kinds else prepared.data.classes
    samples = images[VAL].images[:4]
    writer = VersionWriter(
        average,
        config.name,
        config.out,
        classes,
        run,
        samples,
        decides=prepared.decides,
        split=read_regular(config.out / SPLIT_FILE_NAME, TEXT_BYTES_MAX),
    )
    export = export_gate if is_gate else export_segmenter
    accuracy = export(writer, images[VAL], images.get(TEST), on_progress)
    if prepared.decides is Decides.KINDS:  # no line can run it: it rejects everything
        return TrainingResult(accuracy, None, has_masks=False, has_test=TEST in images)
    line = write_labelled_line(
        config, writer.folder, prepared.data, images, prepared.stride, on_progress
    )
    return TrainingResult(
        accuracy={**accuracy, "line": line.measured} if line.measured else accuracy,
        line=line.path,
        has_masks=prepared.data.has_masks,
        has_test=line.measured is not None,
    )


def _run_identity(config: TrainingConfig, prepared: PreparedTraining) -> dict[str, Any]:
    train = prepared.images[TRAIN]
    height, width = train.masks.shape[1:]
    weights = architectures.pretrained_weights(prepared.architecture, config.weights)
    return {
        "kind": config.kind,
        "name": config.name,
        "architecture": prepared.architecture,
        "stride": prepared.stride,
        "ignore_black": prepared.ignore_black,
        "kinds": prepared.kinds,
        "decides": prepared.decides.value,
        "weights": weights.sha256 if weights is not None else None,
        "recipe": prepared.recipe.to_document(),
        "frame": {"height_px": height, "width_px": width, "channels": train.images.shape[3]},
        "data_sha256": dataset_digest(prepared.data),
        "classes": list(prepared.data.classes),
        "left_out": [{"name": one.name, "why": one.reason} for one in prepared.left_out],
        "processes": distributed.process_count(),
        "threads": config.threads,
        "torch": str(torch.__version__),
    }


def load_run(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the averaged network of a run folder, and its `run.json`.

    Raises:
        DataError: It is no run folder, or its checkpoint cannot be read or is of another network.
    """
    identity = read_run_identity(path)
    folder = RunFolder(path)
    state = folder.load()
    name, channels = identity["architecture"], identity["frame"]["channels"]
    if identity["kind"] == "gate":
        net = architectures.build_gate(
            name,
            channels=channels,
            weights=NO_WEIGHTS,
            ignore_black=identity["ignore_black"],
            kinds=identity.get("kinds", 0),
        )
    else:
        net = architectures.build_segmenter(
            name,
            len(identity["classes"]),
            channels=channels,
            stride=identity["stride"],
            weights=NO_WEIGHTS,
        )
    load_state_into(net, state.best or state.average, folder.checkpoint)
    return net.eval(), identity
