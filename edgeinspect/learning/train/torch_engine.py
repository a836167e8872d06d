"""Runs a training run's checkpoint as an engine, through torch, to compare with its export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeinspect.domain import (
    BASE_CONTRACT,
    EXTENDED_CONTRACT,
    Decides,
    FrameShape,
    ModelId,
    ModelKind,
    ModelSpec,
    Pixels,
    Precision,
)
from edgeinspect.errors import DataError, EngineFault, ModelError
from edgeinspect.learning.evaluate import resolve_model
from edgeinspect.learning.train.export import contract_graph
from edgeinspect.learning.train.run_identity import load_run
from edgeinspect.storage.model_store import ModelStore, read_model
from edgeinspect.system import sha256_of


class TorchEngine:
    """The averaged weights of a checkpoint in their contract graph. For one thread."""

    def __init__(self, spec: ModelSpec, graph: nn.Module) -> None:
        self._spec = spec
        self._graph = graph.eval()

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        if image.shape != self._spec.shape.dims or image.dtype != np.uint8:
            raise EngineFault(f"{self._spec.id} takes {self._spec.shape}, was given {image.shape}")
        with torch.inference_mode():
            out: Any = self._graph(torch.from_numpy(image[None]))
        outputs = out if isinstance(out, tuple) else (out,)
        return tuple(each.numpy() for each in outputs)

    def close(self) -> None:
        """Nothing to free."""


def load_checkpoint_engine(path: Path) -> TorchEngine:
    """Load `RUN/checkpoint.pt`, with the thresholds of the run's export if it has one.

    Raises:
        DataError: It is not the checkpoint of a training run, or cannot be read.
    """
    if not path.is_file():
        raise DataError(
            "there is no such checkpoint",
            where=str(path),
            remedy="Give RUN/checkpoint.pt of a training",
        )
    net, identity = load_run(path.parent)
    frame, is_gate = identity["frame"], identity["kind"] == "gate"
    kinds, decides = int(identity.get("kinds", 0)), Decides(identity.get("decides", "defects"))
    spec = ModelSpec(
        id=ModelId(str(identity["name"]), 1, sha256_of(path)),
        kind=ModelKind(identity["kind"]),
        path=path,
        shape=FrameShape(frame["height_px"], frame["width_px"], frame["channels"]),
        color="mono" if frame["channels"] == 1 else "bgr",
        classes=("defect",) if is_gate and not kinds else tuple(identity["classes"]),
        output_stride=int(identity["stride"]),
        precision=Precision.FP32,
        thresholds=_exported_thresholds(path.parent),
        contract=EXTENDED_CONTRACT if kinds else BASE_CONTRACT,
        decides=decides,
    )
    return TorchEngine(spec, contract_graph(net, decides)[0])


def _exported_thresholds(run: Path) -> Mapping[str, object]:
    """Return the thresholds that were chosen at the export of these weights."""
    try:
        return read_model(Path(resolve_model(str(run), ModelStore())[1])).thresholds
    except ModelError:
        return MappingProxyType({})
