"""The line of a gate, a segmenter, or a pair: thresholds chosen on `val`, measured on `test`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeinspect.learning.datasets import TEST, VAL, Dataset, ImageArrays
from edgeinspect.learning.train.line_file import (
    SEVERITY,
    LineDescription,
    quote_yaml,
    write_line_file,
)
from edgeinspect.learning.train.line_thresholds import LineGraphs, LineThresholds, measure_line
from edgeinspect.learning.train.pairing import open_pair
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.progress import StageProgress, ignore_progress
from edgeinspect.storage.model_store import ModelStore

_GATE_CODE, _FIRST_CLASS_CODE = 10, 11


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """The line file of a training."""

    path: Path
    measured: Mapping[str, Any] | None
    """What the line rejects of the test split; None without one."""


def write_labelled_line(
    config: TrainingConfig,
    folder: Path,
    data: Dataset,
    images: Mapping[str, ImageArrays],
    stride: int,
    on_progress: StageProgress = ignore_progress,
) -> WrittenLine:
    """Choose the thresholds of the line and write its file.

    Args:
        config: Of the training; with a pair, the line has both models.
        folder: Of the exported version.
        data: Of the training, split.
        images: By split: thresholds are chosen on `val`, the line is measured on `test`.
        stride: Frame pixels per class-map cell of this model; 1 for a gate.
        on_progress: Called with each image.

    Raises:
        OutputError: The run folder cannot be written.
        DataError, UsageError, ModelError: The pair is no longer usable.
    """
    pair = open_pair(config)
    other = pair.spec if pair is not None else None
    other_folder = other.path.parent if other is not None else None
    if config.kind == "gate":
        graphs = LineGraphs(folder, other_folder, other.output_stride if other is not None else 1)
    else:
        graphs = LineGraphs(other_folder, folder, stride)
    classes = data.classes if graphs.segmenter is not None else ()
    scores, _outputs = graphs.scores(images[VAL], "line thresholds", on_progress)
    chosen = graphs.choose(scores, images[VAL], classes)
    on_validation = measure_line(scores, images[VAL], chosen)
    measured = None
    if TEST in images and len(images[TEST]):
        scores, _outputs = graphs.scores(images[TEST], "line test", on_progress)
        measured = measure_line(scores, images[TEST], chosen)
    kinds = () if graphs.gate is None else _kinds(graphs.gate)
    engines = {"gate": graphs.gate, "segmenter": graphs.segmenter}
    line = LineDescription(
        name=config.name,
        out=config.out,
        engines={role: each for role, each in engines.items() if each is not None},
        decisions=tuple(_decisions(chosen, on_validation, kinds)),
        data=data,
        split=VAL if measured is None else TEST,
        sample=images[VAL],
    )
    return WrittenLine(write_line_file(line), measured)


def _kinds(gate: Path) -> tuple[str, ...]:
    """Return the kinds of defects that a gate tells apart."""
    return ModelStore().resolve(str(gate.absolute())).kinds


def _decisions(
    thresholds: LineThresholds, found: Mapping[str, Any], kinds: tuple[str, ...]
) -> Iterator[str]:
    """Yield the lines of `decide`."""
    yield "# Chosen on the validation split, together for all models of the line: of its"
    yield f"# {found['defective']} defective images {found['rejected']} are rejected, " + (
        f"of {found['clean']} good ones {round(found['overkill'] * found['clean'])}."
        if found["clean"]
        else "and it has no good image: false rejects are unknown."
    )
    if (gate := thresholds.gate) is not None:
        limits = f"suspect_at: {gate['suspect']:g}, reject_at: {gate['reject']:g}"
        limits += f", degraded_reject_at: {gate['degraded']:g}, reject_code: {_GATE_CODE}"
        if not kinds:
            yield f"  gate: {{{limits}}}"
        else:
            yield "  gate:"
            yield from (f"    {limit}" for limit in limits.split(", "))
            yield "    # The most probable kind gives the code; with `prob` it rejects by itself."
            yield "    classes:"
            for code, name in enumerate(kinds, _FIRST_CLASS_CODE):
                yield f"      {quote_yaml(name)}: {{severity: {SEVERITY}, reject_code: {code}}}"
    if not thresholds.classes:
        return
    yield "  # A region rejects the part if it reaches the score and the area in pixels."
    yield "  classes:"
    first = _FIRST_CLASS_CODE + len(kinds)
    for code, (name, limits_of) in enumerate(thresholds.classes.items(), first):
        yield (
            f"    {quote_yaml(name)}: {{score: {limits_of['score']:g}, area_px: "
            f"{limits_of['area_px']:g}, severity: {SEVERITY}, reject_code: {code}}}"
        )
