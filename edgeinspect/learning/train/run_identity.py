"""What `run.json` says of a training: compared before one resumes, and read to load its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeinspect.learning.datasets import TRAIN, describe_change, load_split
from edgeinspect.learning.evaluate import SPLIT_FILE_NAME
from edgeinspect.learning.train import architectures, distributed
from edgeinspect.learning.train.checkpoint import RunFolder, load_state_into, read_run_identity
from edgeinspect.learning.train.data_record import dataset_digest
from edgeinspect.learning.train.encoders import NO_WEIGHTS
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.preparation import PreparedTraining


def describe_data_change(run: Path, prepared: PreparedTraining) -> str:
    """Return how the data differs from that of the split file of a run; empty if it has none."""
    file = run / SPLIT_FILE_NAME
    return describe_change(load_split(file), prepared.data) if file.is_file() else ""


def run_identity(config: TrainingConfig, prepared: PreparedTraining) -> dict[str, Any]:
    """Return the `run.json` of a training: recipe, network, data and versions."""
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
