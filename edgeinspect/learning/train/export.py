"""Exports a trained network as an ONNX graph under the model contract, and checks it.

Source: docs/reference/models.md
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeinspect.domain import Decides, ModelKind
from edgeinspect.errors import ModelError
from edgeinspect.learning.onnx_graphs.manifest import (
    EXPORT_OPSET,
    MIN_CONTRACT_OPSET,
    ModelCard,
    graph_metadata,
    set_metadata,
    write_manifest,
)


class GateGraph(nn.Module):
    """A gate under the contract: uint8 (1, H, W, C) to `defect_prob` float32 (1,)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        logit, _coarse = self.net(image.to(torch.float32).permute(0, 3, 1, 2))
        return torch.sigmoid(logit)


class KindsGraph(nn.Module):
    """A gate of kinds: uint8 (1, H, W, C) to `defect_prob` (1,) and `class_prob` (1, K).

    Args:
        net: Gives logits (N, K+1).
        has_good: Whether it has learned good images; else the kinds share all probability.
    """

    def __init__(self, net: nn.Module, *, has_good: bool) -> None:
        super().__init__()
        self.net = net
        self.has_good = has_good

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, _coarse = self.net(image.to(torch.float32).permute(0, 3, 1, 2))
        first = 1 if self.has_good else 0
        probs = logits[:, 1 - first :].softmax(dim=1)[:, first:]
        return probs.sum(dim=1).clamp(max=1.0), probs


class SegmenterGraph(nn.Module):
    """A segmenter under the contract: uint8 (1, H, W, C) to class map, areas and scores.

    `class_score` is the mean probability of a class over its cells of the class map, 0
    without a cell. `class_area_px` is cells times stride squared, in float32.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, _deep, _presence = self.net(image.to(torch.float32).permute(0, 3, 1, 2))
        probs = logits.softmax(dim=1)
        winner = logits.argmax(dim=1).to(torch.float32)
        areas, scores = [], []
        for class_id in range(1, logits.shape[1]):
            is_class = (winner == float(class_id)).to(torch.float32)
            cells = is_class.sum(dim=(1, 2))
            areas.append(cells)
            scores.append((probs[:, class_id] * is_class).sum(dim=(1, 2)) / cells.clamp(min=1.0))
        area_px = torch.stack(areas, dim=1) * float(self.net.stride**2)
        return winner.to(torch.uint8), area_px, torch.stack(scores, dim=1)


def export_graph(net: nn.Module, card: ModelCard, root: Path, samples: NDArray[np.uint8]) -> Path:
    """Write `<root>/<name>/<version>/{model.onnx, manifest.yaml}` and check the graph.

    Args:
        net: In eval mode; one with a `stride` is a segmenter, any other a gate.
        card: For metadata and manifest.
        root: A model store's folder.
        samples: uint8 (N, H, W, C) real images; the graph is fixed to their size, and ONNX
            Runtime's outputs for each must equal torch's.

    Raises:
        ModelError: The graph breaks the contract, or differs from torch.
    """
    is_gate = not hasattr(net, "stride")
    graph, names = contract_graph(net, card.decides)
    color = "mono" if samples.shape[3] == 1 else "bgr"
    kind = ModelKind.GATE if is_gate else ModelKind.SEGMENTER
    metadata = graph_metadata(kind, card, color, 1 if is_gate else net.stride)
    return write_contract_graph(graph, names, card, metadata, root, samples)


def write_contract_graph(
    graph: nn.Module,
    names: Sequence[str],
    card: ModelCard,
    metadata: Mapping[str, str],
    root: Path,
    samples: NDArray[np.uint8],
    *,
    inner: Sequence[str] = (),
) -> Path:
    """Write a graph under the contract with its manifest, and check it against torch.

    Args:
        graph: Maps uint8 (1, H, W, C) to the outputs `names`, followed by `inner`.
        names: Names of the outputs.
        card: For the manifest.
        metadata: For the graph; see `graph_metadata`.
        root: A model store's folder.
        samples: As in `export_graph`.
        inner: Names of tensors that are no outputs of the file, but can be made outputs.

    Raises:
        ModelError: The graph breaks the contract, or differs from torch.
    """
    import onnx

    folder = root / card.name / str(card.version)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    graph = graph.eval().to(memory_format=torch.contiguous_format)
    model = export_onnx(graph, torch.from_numpy(samples[:1]), (*names, *inner))
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset < MIN_CONTRACT_OPSET:
        raise ModelError(
            f"exporter gave opset {opset}; {MIN_CONTRACT_OPSET} or above is needed", where=str(path)
        )
    del model.graph.output[len(names) :]
    set_metadata(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    _check_against_torch(path, graph, samples, names)
    write_manifest(folder, path, card, metadata, opset, samples.shape[1:])
    return folder


def export_onnx(graph: nn.Module, sample: Tensor, names: Sequence[str]) -> Any:
    """Return a module as an onnx.ModelProto with the input `image`, without local paths in it.

    Args:
        graph: In eval mode.
        sample: One input; the graph is fixed to its shape.
        names: Of the outputs.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (sample,),
            input_names=["image"],
            output_names=list(names),
            opset_version=EXPORT_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.optimize()
    model = program.model_proto
    _remove_exporter_metadata(model)
    return model


def contract_graph(net: nn.Module, decides: Decides) -> tuple[nn.Module, list[str]]:
    """Return a network's graph under the contract, and the names of its outputs."""
    if hasattr(net, "stride"):
        return SegmenterGraph(net), ["class_map", "class_area_px", "class_score"]
    if getattr(net, "kinds", 0):
        has_good = decides is Decides.DEFECTS
        return KindsGraph(net, has_good=has_good), ["defect_prob", "class_prob"]
    return GateGraph(net), ["defect_prob"]


def _remove_exporter_metadata(model: Any) -> None:
    """Remove the exporter's notes on source files, which contain local paths."""
    model.doc_string = ""
    for holder in (
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
        *model.functions,
    ):
        holder.doc_string = ""
        del holder.metadata_props[:]


def _check_against_torch(
    path: Path, graph: nn.Module, samples: NDArray[np.uint8], names: Sequence[str]
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for index in range(len(samples)):
        image = samples[index : index + 1]
        outputs = session.run(list(names), {"image": image})
        with torch.no_grad():
            result = graph(torch.from_numpy(image))
        expected = [result] if isinstance(result, Tensor) else list(result)
        for name, output, tensor in zip(names, outputs, expected, strict=False):
            reference = tensor.numpy()
            if output.dtype != reference.dtype or output.shape != reference.shape:
                raise ModelError(
                    f"{name} is {output.dtype}{output.shape}, "
                    f"not {reference.dtype}{reference.shape}",
                    where=str(path),
                )
            if name == "class_map":  # a tie may be resolved either way
                worst = float((output != reference).mean())
                allowed = 1e-3
            elif name == "heat_map":  # a level may be rounded either way
                worst = float(np.abs(output - reference.astype(np.float32)).max())
                allowed = 1.0
            else:
                scale = max(1.0, float(np.abs(reference).max()))
                worst = float(np.abs(output - reference).max()) / scale
                allowed = 1e-2 if name == "class_area_px" else 1e-3
            if worst > allowed:
                raise ModelError(
                    f"{name} of sample {index} differs from torch by {worst:.2g}",
                    where=str(path),
                )
