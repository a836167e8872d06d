"""Writes the line file of a training: a configuration that runs as it is, over the test images.

RUN/line.yaml          the line, with the chosen thresholds
RUN/test-images.txt    names of the images that it inspects
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeinspect.learning.datasets import TEST, VAL, Dataset, ImageArrays
from edgeinspect.learning.train.checkpoint import write_file
from edgeinspect.learning.train.line_thresholds import (
    LineGraphs,
    LineThresholds,
    measure_line,
    run_exported,
)
from edgeinspect.learning.train.pairing import open_pair
from edgeinspect.learning.train.plan import TrainingConfig
from edgeinspect.learning.train.progress import StageProgress, ignore_progress
from edgeinspect.registry import is_installed
from edgeinspect.storage.model_store import ModelStore
from edgeinspect.system import TEXT_BYTES_MAX, read_regular

LINE_FILE = "line.yaml"
CHANGED_LINE_FILE = "line.new.yaml"
"""Written instead where `line.yaml` has been edited."""
NAMES_FILE = "test-images.txt"

_SEAL = "# Replaced by a later training while its sum is "
_NAME_MAX = 32
_GATE_CODE, _FIRST_CLASS_CODE = 10, 11
_SEVERITY = 5
_MIN_BUDGET_MS = 1000
_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class WrittenLine:
    """The line file of a training."""

    path: Path
    measured: Mapping[str, Any] | None
    """What the line rejects of the test split; None without one."""


def write_line_file(
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
    split = TEST if measured is not None else VAL
    names_file = config.out / NAMES_FILE
    root, names = _image_names(data, split)
    write_file(
        names_file, "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    )
    text = "\n".join(
        _render(
            _Line(
                name=config.name[:_NAME_MAX],
                graphs=graphs,
                thresholds=chosen,
                on_validation=on_validation,
                data=data,
                root=root,
                names_file=names_file,
                split=split,
                image_count=len(names),
                channels=images[VAL].images.shape[3],
                inference_ms=_inference_ms(graphs, images[VAL]),
                out=config.out,
                kinds=_kinds(graphs.gate),
            )
        )
    )
    return WrittenLine(_write(config.out, text + "\n"), measured)


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    graphs: LineGraphs
    thresholds: LineThresholds
    on_validation: Mapping[str, Any]
    data: Dataset
    root: Path
    names_file: Path
    split: str
    image_count: int
    channels: int
    inference_ms: float
    out: Path
    kinds: tuple[str, ...]
    """Of defects that the gate tells apart."""


def _kinds(gate: Path | None) -> tuple[str, ...]:
    return () if gate is None else ModelStore().resolve(str(gate.absolute())).kinds


def _render(line: _Line) -> Iterator[str]:
    """Yield the lines of the file, without its seal."""
    path = shlex.quote(str(line.out.absolute() / LINE_FILE))
    yield f"# A line that inspects with {_models(line.graphs)}, written by `edgeinspect train`."
    yield "#"
    yield f"#   edgeinspect check {path}"
    yield f"#   edgeinspect run {path}"
    yield "#"
    yield f"# As it is, it inspects the {line.image_count} images of the {line.split} split once."
    yield "# For your line, copy it and change what is marked CHANGE; every key is explained in"
    yield "# docs/reference/configuration.md."
    yield ""
    yield "schema: 1"
    yield f"line: {line.name}"
    yield ""
    budget_ms = max(_MIN_BUDGET_MS, math.ceil(line.inference_ms * 20 / 1000) * 1000)
    yield f"# From the image to the verdict. Inference took {line.inference_ms:.0f} ms here."
    yield "# CHANGE: the time until the ejector must know; `edgeinspect check` measures your PC."
    yield f"budget_ms: {budget_ms}"
    yield ""
    yield from _render_camera(line)
    yield ""
    yield from _render_engines(line)
    yield ""
    yield "# CHANGE: the size of a pixel on the part, from which areas in mm² come."
    yield "optics: {mm_per_px_x: 1, mm_per_px_y: 1}"
    yield ""
    yield from _render_decisions(line)
    yield ""
    yield "# Every verdict is kept there: edgeinspect ledger query " + str(path)
    yield f"ledger: {{folder: {_quote(line.out.absolute() / 'ledger')}}}"
    yield ""
    yield "capture:"
    yield "  ring_slots: 4"
    yield "  overload: block             # CHANGE: drop_oldest for a camera, which does not wait"
    yield "  # CHANGE: no_verdict, if every image of the camera has the size of the model's frame."
    yield "  wrong_shape: letterbox"
    yield "  reconnect: {attempts: 5}    # CHANGE: remove it, and a lost camera is tried for ever"
    yield ""
    yield "# act_by: {travel_ms: 3000}     # CHANGE: from the camera to the ejector"


def _models(graphs: LineGraphs) -> str:
    return " and ".join(
        f"{role} {folder.parent.name}"
        for role, folder in (("gate", graphs.gate), ("segmenter", graphs.segmenter))
        if folder is not None
    )


def _render_camera(line: _Line) -> Iterator[str]:
    yield "# CHANGE: your camera, see docs/howto/cameras.md. A folder that another program fills:"
    yield "#   top: {type: folder, path: /srv/incoming, watch: true, color: ...}"
    yield "cameras:"
    yield "  top:"
    yield "    type: folder"
    yield f"    path: {_quote(line.root)}"
    yield f"    names: {_quote(line.names_file.absolute())}"
    yield f"    color: {'mono' if line.channels == 1 else 'bgr'}"
    if line.data.bit_depth > 8:
        yield f"    bits: {line.data.bit_depth}"
    if line.data.flat_end:
        yield "    flat_end: true"
    yield "    pace: max                 # as fast as the line accepts them"


def _render_engines(line: _Line) -> Iterator[str]:
    yield "# CHANGE: with the models in a store, add `store: FOLDER` and name the model without a"
    yield "# version, as model: my-gate. The line then runs the live version, such as INT8."
    yield "engines:"
    backend = "ov" if is_installed("openvino") else "ort"
    for role, folder in (("gate", line.graphs.gate), ("segmenter", line.graphs.segmenter)):
        if folder is not None:
            yield f"  {role}: {{type: {backend}, model: {_quote(folder.absolute())}}}"


def _render_decisions(line: _Line) -> Iterator[str]:
    found, thresholds = line.on_validation, line.thresholds
    yield "# Chosen on the validation split, together for all models of the line: of its"
    yield f"# {found['defective']} defective images {found['rejected']} are rejected, " + (
        f"of {found['clean']} good ones {round(found['overkill'] * found['clean'])}."
        if found["clean"]
        else "and it has no good image: false rejects are unknown."
    )
    yield "# CHANGE: reject_code is what the PLC is told; severity 1 (cosmetic) to 9 (dangerous)"
    yield "# decides which code it is where a part has several defects."
    yield "decide:"
    if (gate := thresholds.gate) is not None:
        limits = f"suspect_at: {gate['suspect']:g}, reject_at: {gate['reject']:g}"
        limits += f", degraded_reject_at: {gate['degraded']:g}, reject_code: {_GATE_CODE}"
        if not line.kinds:
            yield f"  gate: {{{limits}}}"
        else:
            yield "  gate:"
            yield from (f"    {limit}" for limit in limits.split(", "))
            yield "    # The most probable kind gives the code; with `prob` it rejects by itself."
            yield "    classes:"
            for code, name in enumerate(line.kinds, _FIRST_CLASS_CODE):
                yield f"      {_quote(name)}: {{severity: {_SEVERITY}, reject_code: {code}}}"
    if not thresholds.classes:
        return
    yield "  # A region rejects the part if it reaches the score and the area in pixels."
    yield "  classes:"
    first = _FIRST_CLASS_CODE + len(line.kinds)
    for code, (name, limits_of) in enumerate(thresholds.classes.items(), first):
        yield (
            f"    {_quote(name)}: {{score: {limits_of['score']:g}, area_px: "
            f"{limits_of['area_px']:g}, severity: {_SEVERITY}, reject_code: {code}}}"
        )


def _quote(value: str | Path) -> str:
    """Return text as a YAML scalar: JSON's strings are YAML's."""
    text = str(value)
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _image_names(data: Dataset, split: str) -> tuple[Path, list[str]]:
    """Return a folder, and the names of the split's images below it.

    A name that a file of names cannot hold, with a line break or a space at an end, is left out.
    """
    paths: Sequence[str] = [os.path.abspath(sample.path) for sample in data.in_splits(split)]
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = (os.path.relpath(path, root) for path in paths)
    return Path(root), [name for name in names if name.strip() == name and "\n" not in name]


def _inference_ms(graphs: LineGraphs, images: ImageArrays) -> float:
    """Return the time of one inference of all models."""
    return 1000 * sum(
        _inference_s(folder, images) for folder in (graphs.gate, graphs.segmenter) if folder
    )


def _inference_s(folder: Path, images: ImageArrays) -> float:
    """Return the mean time between two images, without that of opening the model."""
    few = images.select(number % len(images) for number in range(_TIMED_RUNS + 1))
    ends: list[float] = []

    def note(*_arguments: object, **_options: object) -> None:
        ends.append(time.perf_counter())

    run_exported(folder, few, "time", note)
    return (ends[-1] - ends[0]) / _TIMED_RUNS


def _write(out: Path, text: str) -> Path:
    """Write the file; one that was edited stays, and the new one is written beside it."""
    path = out / LINE_FILE
    if path.exists() and not _is_unchanged(path):
        path = out / CHANGED_LINE_FILE
    write_file(path, f"{_SEAL}{_digest(text)}\n{text}".encode("utf-8", "surrogateescape"))
    return path


def _is_unchanged(path: Path) -> bool:
    """Return whether a line file is as a training wrote it."""
    try:
        text = read_regular(path, TEXT_BYTES_MAX).decode("utf-8", "surrogateescape")
    except OSError:
        return False
    first, _, rest = text.partition("\n")
    return first == f"{_SEAL}{_digest(rest)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
