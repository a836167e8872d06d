"""A whole training: a data set in; a run folder with a checked, measured model out.

RUN/run.json         recipe, data and versions: a run goes on only with the same
RUN/split.json       which picture was in which split
RUN/checkpoint.pt    everything a killed training needs to go on
RUN/curve.csv        loss and validation score by step; curve.svg shows it
RUN/<name>/1/        the exported model, for a store
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.arrays import Pictures
from edgeinspect.learning.datasets.load import channels_of, common_size, load
from edgeinspect.learning.datasets.open import open_data
from edgeinspect.learning.datasets.records import TEST, TRAIN, VAL, DataSet, Skipped, has_class
from edgeinspect.learning.datasets.split import read_split, split, write_split
from edgeinspect.learning.train import architectures, distributed
from edgeinspect.learning.train.checkpoint import RunFolder, read_identity, restore
from edgeinspect.learning.train.fit import fit
from edgeinspect.learning.train.learning_curve import draw_curve
from edgeinspect.learning.train.networks import parameter_count
from edgeinspect.learning.train.plan import Plan, recipe_for, stride_for
from edgeinspect.learning.train.recipe import Recipe
from edgeinspect.learning.train.tasks import GateTask, SegmenterTask, Task
from edgeinspect.learning.train.write_version import Report, finish_gate, finish_segmenter
from edgeinspect.system.regular_file import sha256_of


def train(
    plan: Plan,
    report: Report = lambda stage, done, total, loss: None,
    tell: Callable[[Sequence[Skipped]], None] = lambda left_out: None,
) -> dict[str, Any]:
    """Train, export and measure one model; `torchrun` may run it in several processes.

    Args:
        plan: What to train.
        report: Told how far it is.
        tell: Given, before the first step, the pictures that are left out and why.

    Returns:
        The figures on the test split, from the exported graph; empty in all processes but
        the first.

    Raises:
        DataError: Unusable pictures, a loss that became NaN, or a run of another kind there.
        StorageError: The disk is full.
    """
    distributed.use_threads(plan.threads)
    with distributed.joined():
        prepared = prepare(plan, report)
        tell(prepared.left_out)
        average, minutes = _fit(plan, prepared, report)
        if distributed.rank() != 0:
            return {}
        return _finish(plan, prepared, average, minutes, report)


_MORE = "Give more pictures, or a split of your own with --split (see: edgeinspect data split)"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training works on."""

    data: DataSet
    pictures: dict[str, Pictures]
    """By split."""
    recipe: Recipe
    net: nn.Module
    task: Task
    architecture: str
    stride: int
    """Of the class map; 1 for a gate."""
    ignore_black: bool
    """Whether letterboxing leaves black bands around some picture."""
    left_out: tuple[Skipped, ...] = ()
    """Pictures that are not trained or measured on, and why."""


def prepare(plan: Plan, report: Report) -> Prepared:
    """Open the set, split it, decode it, build the network."""
    data = open_data(plan.data, plan.layout, good=plan.good)
    if plan.split_file is not None:
        data = read_split(plan.split_file, data)
    else:
        data = split(data, plan.seed)
    size = plan.size or common_size(data)
    channels = plan.channels or channels_of(data)
    pictures = {
        name: load(
            data,
            data.of(name),
            height_px=size[0],
            width_px=size[1],
            channels=channels,
            cache=plan.out / "cache",
            progress=lambda done, name=name: report(  # type: ignore[misc]
                f"read {name}", done, len(data.of(name)), 0.0
            ),
        )
        for name in (TRAIN, VAL, TEST)
        if data.of(name)
    }
    left_out = (*data.left_out, *(one for part in pictures.values() for one in part.skipped))
    for name in (TRAIN, VAL):
        if name not in pictures or not len(pictures[name]):
            raise DataError(
                f"has no picture in split '{name}'",
                where=str(plan.data),
                remedy=_MORE,
            )
    if plan.kind == "gate":
        _check_both_kinds(plan, pictures)
    part = pictures[TRAIN]
    stride = stride_for(plan, size)
    recipe = recipe_for(
        plan,
        size,
        has_masks=has_class(part.masks),
        has_sound=not bool(part.defective.all()),
        stride=stride,
    )
    torch.manual_seed(plan.seed)
    if plan.kind == "gate":
        architecture = plan.architecture or "small"
        padded = _has_bands(part.images)
        gate = architectures.gate(
            architecture, channels=channels, weights=plan.weights, ignore_black=padded
        )
        task: Task = GateTask(part)
        return Prepared(data, pictures, recipe, gate, task, architecture, 1, padded, left_out)
    architecture = plan.architecture or "resunet-0.8m"
    task = SegmenterTask(part, stride, recipe.loss)
    segmenter = architectures.segmenter(
        architecture, len(data.classes), channels=channels, stride=stride, weights=plan.weights
    )
    return Prepared(data, pictures, recipe, segmenter, task, architecture, stride, False, left_out)


def _check_both_kinds(plan: Plan, pictures: dict[str, Pictures]) -> None:
    """A gate learns, chooses its thresholds and is measured on good and defective pictures.

    Raises:
        DataError: A split lacks one of them.
    """
    for name, part in pictures.items():
        for kind, there in (("defective", part.defective.any()), ("good", (~part.defective).any())):
            if len(part) and not there:
                raise DataError(
                    f"has no {kind} picture in split '{name}', and a gate needs both",
                    where=str(plan.data),
                    remedy=_MORE,
                )


def _has_bands(images: NDArray[np.uint8]) -> bool:
    """Whether letterboxing left black bands in more than one picture of a hundred."""
    black = 0
    for image in images:
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        black += any(not edge.any() for edge in edges)
    return black > len(images) / 100


def _fit(plan: Plan, prepared: Prepared, report: Report) -> tuple[nn.Module, float]:
    recipe = prepared.recipe
    folder = RunFolder(plan.out)
    state = None
    if distributed.rank() == 0:
        state = folder.begin(_identity(plan, prepared), resume=plan.resume)
        write_split(plan.out / "split.json", prepared.data, plan.seed)
    if distributed.count() > 1:
        torch.distributed.barrier()
        if distributed.rank() != 0 and folder.checkpoint.exists():
            state = folder.load()
    began = time.monotonic()
    average = fit(
        prepared.net,
        prepared.task,
        prepared.pictures[TRAIN],
        recipe,
        validation=prepared.pictures[VAL],
        folder=folder,
        state=state,
        progress=lambda step, loss, best: report(plan.kind, step, recipe.steps, loss),
    )
    return average, (time.monotonic() - began) / 60


def _finish(
    plan: Plan, prepared: Prepared, average: nn.Module, minutes: float, report: Report
) -> dict[str, Any]:
    pictures, recipe = prepared.pictures, prepared.recipe
    draw_curve(plan.out)
    run = {
        "run": f"{plan.name}-{recipe.steps}s-seed{recipe.seed}",
        "data": f"{plan.data.name}, {len(pictures[TRAIN])} pictures",
        "data_sha256": _data_hash(prepared.data),
        "architecture": prepared.architecture,
        "seed": recipe.seed,
        "steps": recipe.steps,
        "batch": recipe.batch,
        "parameters": parameter_count(average),
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "bits": prepared.data.bits,
        "statistics": _statistics(pictures[TRAIN]),
    }
    samples = pictures[VAL].images[:4]
    test = pictures.get(TEST)
    if plan.kind == "gate":
        return finish_gate(average, plan.name, plan.out, run, samples, pictures[VAL], test, report)
    return finish_segmenter(
        average, plan.name, plan.out, run, samples, prepared.data.classes, test, report
    )


def _statistics(pictures: Pictures) -> dict[str, Any]:
    """Deciles of brightness and contrast: a calibration holds its frames against them."""
    values = np.array([(image.mean(), image.std()) for image in pictures.images])
    found = np.quantile(values, np.linspace(0.1, 0.9, 9), axis=0)
    return {
        "pictures": len(values),
        **{
            name: [round(float(each), 5) for each in found[:, column]]
            for column, name in enumerate(("brightness", "contrast"))
        },
    }


def _identity(plan: Plan, prepared: Prepared) -> dict[str, Any]:
    height, width = prepared.pictures[TRAIN].masks.shape[1:]
    return {
        "kind": plan.kind,
        "name": plan.name,
        "architecture": prepared.architecture,
        "stride": prepared.stride,
        "ignore_black": prepared.ignore_black,
        "weights": sha256_of(plan.weights) if plan.weights else None,
        "recipe": prepared.recipe.document(),
        "frame": {
            "height_px": height,
            "width_px": width,
            "channels": prepared.pictures[TRAIN].images.shape[3],
        },
        "data_sha256": _data_hash(prepared.data),
        "classes": list(prepared.data.classes),
        "left_out": [{"name": one.name, "why": one.why} for one in prepared.left_out],
        "processes": distributed.count(),
        "threads": plan.threads,
        "torch": str(torch.__version__),
    }


def _data_hash(data: DataSet) -> str:
    """Of names, labels and splits; not of pixels, which may be many gigabytes."""
    digest = hashlib.sha256()
    for record in data.records:
        digest.update(f"{record.name}\0{int(record.defective)}\0{record.split}\n".encode())
    return digest.hexdigest()


def load_run(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The averaged network of a run folder, and its `run.json`.

    Raises:
        DataError: It is no run folder, or its checkpoint cannot be read or is of another network.
    """
    identity = read_identity(path)
    folder = RunFolder(path)
    state = folder.load()
    frame = identity["frame"]
    if identity["kind"] == "gate":
        net = architectures.gate(
            identity["architecture"],
            channels=frame["channels"],
            ignore_black=identity["ignore_black"],
        )
    else:
        net = architectures.segmenter(
            identity["architecture"],
            len(identity["classes"]),
            channels=frame["channels"],
            stride=identity["stride"],
        )
    restore(net, state.best or state.average, folder.checkpoint)
    return net.eval(), identity
