"""What is asked of an import, and how the foreign graph turned out to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeinspect.domain import ModelKind
from edgeinspect.errors import UsageError

Layout = Literal["nchw", "nhwc"]
Activation = Literal["sigmoid", "softmax"]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What the caller knows of a foreign network. None: to be found in the graph."""

    file: Path
    kind: ModelKind
    height_px: int
    width_px: int
    channels: int
    """Of the frame, 1 or 3."""
    color: Literal["bgr", "rgb"] | None = None
    """The order that the network expects; of no meaning for one channel."""
    frame_color: Literal["bgr", "rgb"] = "bgr"
    """The order in which the line's frames come."""
    layout: Layout | None = None
    output_layout: Layout | None = None
    mean: Sequence[float] = ()
    """Per channel, in the network's order, after the division by `scale`."""
    std: Sequence[float] = ()
    scale: float = 255.0
    output: Literal["logits", "probs"] | None = None
    activation: Literal["sigmoid", "softmax", "none"] | None = None
    classes: Sequence[str] = ()
    """A segmenter's kinds of defect; the names of a classifier's outputs."""
    defect_index: int | None = None
    good_index: int | None = None
    background: Literal["first", "none"] | None = None
    thresholds: Sequence[float] = (0.5,)
    """For sigmoids: what a cell's probability must exceed; one, or one per class."""
    stride: int | None = None
    output_name: str | None = None
    model_height_px: int | None = None
    model_width_px: int | None = None
    """Size that a network of free size runs at; the frame's when None."""

    allow_uniform: bool = False
    """Whether a network that answers the same on every sample may be taken."""

    def validate(self) -> None:
        """Refuse what contradicts itself, whatever the graph.

        Raises:
            UsageError: Names the option.
        """
        if self.channels not in (1, 3):
            raise UsageError("frames have 1 or 3 channels", where="--channels")
        if not 0 < self.scale < 1e9:
            raise UsageError(f"{self.scale} is no scale", where="--scale", remedy="As 255, or 1")
        if any(not value > 0 for value in self.std):
            raise UsageError("a deviation must be above 0", where="--std")
        if self.defect_index is not None and self.good_index is not None:
            raise UsageError("give --defect-index or --good-index, not both")
        if len(set(self.classes)) != len(self.classes):
            raise UsageError("class names must differ", where="--classes")
        if any(not name or len(name) > 64 for name in self.classes):
            raise UsageError("a class name has 1 to 64 characters", where="--classes")
        if any(not 0 <= value < 1 for value in self.thresholds):
            raise UsageError("a threshold is from 0 to below 1", where="--threshold")
        if self.kind is ModelKind.SEGMENTER:
            if not self.classes:
                raise UsageError(
                    "a segmenter names its classes",
                    remedy="Give --classes a,b,c: the kinds of defect in the channels' order, "
                    "without background",
                )
            if self.stride is not None:
                check_stride(self, self.stride)
            if len(self.thresholds) not in (1, len(self.classes)):
                raise UsageError("give one threshold, or one per class", where="--threshold")
        if self.activation == "none" and self.output == "logits":
            raise UsageError(
                "logits need an activation", where="--activation", remedy="sigmoid or softmax"
            )


def check_stride(request: ImportRequest, stride: int) -> None:
    """Refuse a stride under which the class map would not cover the frame.

    Raises:
        UsageError: It does not divide the frame's height and width.
    """
    if not 1 <= stride <= 64 or request.height_px % stride or request.width_px % stride:
        raise UsageError(
            f"{stride} does not divide {request.height_px}x{request.width_px}",
            where="--stride",
            remedy="Give a stride of 1 to 64 that divides the frame's height and width",
        )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The side of a foreign graph that pictures go into."""

    name: str
    dtype: Any
    """numpy's."""
    layout: Layout
    height_px: int
    width_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_swapped: bool
    """Whether the frame's channels come in the other order."""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The side of a foreign graph that answers come out of."""

    name: str
    """A tensor of the graph; that before its arg-max where it ends in one."""
    is_intermediate: bool
    """Whether it is no output of the graph yet."""
    channels: int
    layout: Layout
    """Of a map with four dimensions; of no meaning else."""
    rank: int
    activation: Activation
    activation_applied: bool
    """Whether the graph applies it itself."""
    dtype: Any
    """numpy's."""
    height: int = 1
    width: int = 1
    """Of the map, in cells."""
    stride: int = 1
    """Frame pixels per cell of `class_map`, which has its own size."""


@dataclass(frozen=True, slots=True)
class GraphInterpretation:
    """How the whole graph is read."""

    input_spec: InputSpec
    output_spec: OutputSpec
    notes: tuple[str, ...] = ()
    """What was found out rather than told, for the reader to check."""
