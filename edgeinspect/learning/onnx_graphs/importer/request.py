"""The specification of an import, and the interpretation of the foreign graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeinspect.domain import ModelKind
from edgeinspect.errors import UsageError

Layout = Literal["nchw", "nhwc"]
Activation = Literal["sigmoid", "softmax"]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What the user specified about a foreign network. None: to be inferred from the graph."""

    file: Path
    kind: ModelKind
    height_px: int
    width_px: int
    channels: int
    """Channels of the frame, 1 or 3."""
    color: Literal["bgr", "rgb"] | None = None
    """Channel order that the network expects; ignored for one channel."""
    frame_color: Literal["bgr", "rgb"] = "bgr"
    """Channel order of the line's frames."""
    layout: Layout | None = None
    output_layout: Layout | None = None
    mean: Sequence[float] = ()
    """Per channel, in the network's order, after the division by `scale`."""
    std: Sequence[float] = ()
    scale: float = 255.0
    output: Literal["logits", "probs"] | None = None
    activation: Literal["sigmoid", "softmax", "none"] | None = None
    classes: Sequence[str] = ()
    """A segmenter's defect classes; the names of a classifier's outputs."""
    defect_index: int | None = None
    good_index: int | None = None
    kinds_only: bool = False
    """A classifier whose outputs all are kinds of defects: no output means good."""
    background: Literal["first", "none"] | None = None
    thresholds: Sequence[float] = (0.5,)
    """For sigmoids: the threshold of a cell's probability; one, or one per class."""
    stride: int | None = None
    output_name: str | None = None
    model_height_px: int | None = None
    model_width_px: int | None = None
    """Size at which a network of free size runs; the frame's when None."""
    allow_uniform: bool = False
    """Accept a network with the same result on every sample."""
    replaces_lineage: bool = False
    """It may be of another kind or of other classes than the versions of its name."""

    def validate(self) -> None:
        """Raise if the options contradict each other, independent of the graph.

        Raises:
            UsageError: Names the option.
        """
        if self.channels not in (1, 3):
            raise UsageError("frames have 1 or 3 channels", where="--channels")
        if not 0 < self.scale < 1e9:
            raise UsageError(
                f"{self.scale} is not a scale", where="--scale", remedy="For example 255, or 1"
            )
        if any(not value > 0 for value in self.std):
            raise UsageError("a deviation must be above 0", where="--std")
        if self.defect_index is not None and self.good_index is not None:
            raise UsageError("give --defect-index or --good-index, not both")
        if self.kinds_only and (self.kind is not ModelKind.GATE or not self.classes):
            raise UsageError(
                "goes with --kind gate and --classes, which names every output",
                where="--kinds-only",
            )
        if self.kinds_only and (self.good_index is not None or self.defect_index is not None):
            raise UsageError(
                "means that no output is good: give no output for good or defective with it",
                where="--kinds-only",
            )
        if len(set(self.classes)) != len(self.classes):
            raise UsageError("class names must differ", where="--classes")
        if any(not name or len(name) > 64 for name in self.classes):
            raise UsageError("a class name has 1 to 64 characters", where="--classes")
        if any(not 0 <= value < 1 for value in self.thresholds):
            raise UsageError("a threshold is from 0 to below 1", where="--threshold")
        if self.kind is ModelKind.SEGMENTER:
            if not self.classes:
                raise UsageError(
                    "a segmenter needs class names",
                    remedy="Give --classes a,b,c: the defect classes in the order of the channels, "
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


def find_good_index(classes: Sequence[str], good_class: str) -> int:
    """Return the output that means good, from its name.

    Raises:
        UsageError: No output has this name.
    """
    if good_class not in classes:
        names = ", ".join(classes) or "no output"
        raise UsageError(
            f"'{good_class}' is not one of the network's outputs",
            where="--good-class",
            remedy=f"--classes names {names}: name every output there, in order",
        )
    return list(classes).index(good_class)


def check_stride(request: ImportRequest, stride: int) -> None:
    """Raise for a stride at which the class map would not cover the frame.

    Raises:
        UsageError: It does not divide the frame's height and width.
    """
    if not 1 <= stride <= 64 or request.height_px % stride or request.width_px % stride:
        raise UsageError(
            f"{stride} does not divide {request.height_px}x{request.width_px}",
            where="--stride",
            remedy="Give a stride of 1 to 64 that divides the frame's height and width",
        )


class UndeterminedOptionError(UsageError):
    """The graph does not show something that an option must say.

    Args:
        what: What it does not show.
        remedy: Names the option.
        assumed: Fields of the request with which the examination goes on, to find what else is
            missing; the import ends with this error all the same.
    """

    def __init__(self, what: str, *, remedy: str, assumed: Mapping[str, Any]) -> None:
        super().__init__(what, remedy=remedy)
        self.assumed = assumed


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The image input of a foreign graph."""

    name: str
    dtype: Any
    """A numpy dtype."""
    layout: Layout
    height_px: int
    width_px: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_swapped: bool
    """The network expects the frame's channels in reverse order."""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The tensor of a foreign graph that holds the result."""

    name: str
    """Tensor name; the input of the arg-max if the graph ends in one."""
    channels: int
    layout: Layout
    """Layout of a map with four dimensions; unused otherwise."""
    rank: int
    activation: Activation
    activation_applied: bool
    """The graph applies the activation itself."""
    dtype: Any
    """A numpy dtype."""
    height: int
    width: int
    """Size of the map in cells."""
    stride: int
    """Frame pixels per cell of the contract's `class_map`."""


@dataclass(frozen=True, slots=True)
class GraphInterpretation:
    """How a foreign graph's input and output are interpreted."""

    input_spec: InputSpec
    output_spec: OutputSpec
    notes: tuple[str, ...] = ()
    """What was inferred, for the user to check."""


def kind_indices(request: ImportRequest, output_spec: OutputSpec) -> tuple[int, ...]:
    """Return the outputs that are kinds of defects, each with a name; empty without kinds.

    They are for `class_prob`: two or more outputs of a softmax, beside the one for good, or all.
    """
    if request.kind is not ModelKind.GATE or output_spec.activation != "softmax":
        return ()
    if not request.classes or (request.good_index is None and not request.kinds_only):
        return ()
    indices = tuple(i for i in range(output_spec.channels) if i != request.good_index)
    return indices if len(indices) > 1 else ()
