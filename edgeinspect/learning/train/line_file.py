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

from edgeinspect.learning.datasets import Dataset, ImageArrays
from edgeinspect.learning.train.checkpoint import write_file
from edgeinspect.learning.train.line_thresholds import run_exported
from edgeinspect.registry import is_installed
from edgeinspect.system import TEXT_BYTES_MAX, read_regular

LINE_FILE = "line.yaml"
CHANGED_LINE_FILE = "line.new.yaml"
"""Written instead where `line.yaml` has been edited."""
NAMES_FILE = "test-images.txt"

_SEAL = "# Replaced by a later training while its sum is "
_NAME_MAX = 32
SEVERITY = 5
"""Of every reject code: the user changes it."""
_MIN_BUDGET_MS = 1000
_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class LineDescription:
    """What the line file of a training says."""

    name: str
    out: Path
    """Run folder."""
    engines: Mapping[str, Path]
    """Role to the folder of the exported version."""
    decisions: Sequence[str]
    """Lines of `decide`: comments, and keys with two blanks before them."""
    data: Dataset
    split: str
    """Of the images that the line inspects as it is."""
    sample: ImageArrays
    """Images that the engines are timed with."""
    publishes_masks: bool = False


def write_line_file(line: LineDescription) -> Path:
    """Write `line.yaml` and the names of its images; return the file's path.

    One that was edited stays, and the new one is written beside it.

    Raises:
        OutputError: The run folder cannot be written.
    """
    root, names = _image_names(line.data, line.split)
    names_file = line.out / NAMES_FILE
    write_file(
        names_file, "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    )
    text = "\n".join(_render(line, root, names_file, len(names)))
    return _write(line.out, text + "\n")


def _render(line: LineDescription, root: Path, names_file: Path, count: int) -> Iterator[str]:
    """Yield the lines of the file, without its seal."""
    path = shlex.quote(str(line.out.absolute() / LINE_FILE))
    yield f"# A line that inspects with {_models(line)}, written by `edgeinspect train`."
    yield "#"
    yield f"#   edgeinspect check {path}"
    yield f"#   edgeinspect run {path}"
    yield "#"
    yield f"# As it is, it inspects the {count} images of the {line.split} split once."
    yield "# For your line, copy it and change what is marked CHANGE; every key is explained in"
    yield "# docs/reference/configuration.md."
    yield ""
    yield "schema: 1"
    yield f"line: {line.name[:_NAME_MAX]}"
    yield ""
    inference_ms = 1000 * sum(_inference_s(each, line.sample) for each in line.engines.values())
    budget_ms = max(_MIN_BUDGET_MS, math.ceil(inference_ms * 20 / 1000) * 1000)
    yield f"# From the image to the verdict. Inference took {inference_ms:.0f} ms here."
    yield "# CHANGE: the time until the ejector must know; `edgeinspect check` measures your PC."
    yield f"budget_ms: {budget_ms}"
    yield ""
    yield from _render_camera(line, root, names_file)
    yield ""
    yield from _render_engines(line)
    yield ""
    yield "# CHANGE: the size of a pixel on the part, from which areas in mm² come."
    yield "optics: {mm_per_px_x: 1, mm_per_px_y: 1}"
    yield ""
    yield from (each for each in line.decisions if each.startswith("#"))
    yield "# CHANGE: reject_code is what the PLC is told; severity 1 (cosmetic) to 9 (dangerous)"
    yield "# decides which code it is where a part has several defects."
    yield "decide:"
    yield from (each for each in line.decisions if not each.startswith("#"))
    if line.publishes_masks:
        yield ""
        yield "# The HMI draws the heat map of each frame in which something is found."
        yield "publish: {mask: true}"
    yield ""
    yield "# Every verdict is kept there: edgeinspect ledger query " + str(path)
    yield f"ledger: {{folder: {quote_yaml(line.out.absolute() / 'ledger')}}}"
    yield ""
    yield "capture:"
    yield "  ring_slots: 4"
    yield "  overload: block             # CHANGE: drop_oldest for a camera, which does not wait"
    yield "  # CHANGE: no_verdict, if every image of the camera has the size of the model's frame."
    yield "  wrong_shape: letterbox"
    yield "  reconnect: {attempts: 5}    # CHANGE: remove it, and a lost camera is tried for ever"
    yield ""
    yield "# act_by: {travel_ms: 3000}     # CHANGE: from the camera to the ejector"


def _render_camera(line: LineDescription, root: Path, names_file: Path) -> Iterator[str]:
    yield "# CHANGE: your camera, see docs/howto/cameras.md. A folder that another program fills:"
    yield "#   top: {type: folder, path: /srv/incoming, watch: true, color: ...}"
    yield "cameras:"
    yield "  top:"
    yield "    type: folder"
    yield f"    path: {quote_yaml(root)}"
    yield f"    names: {quote_yaml(names_file.absolute())}"
    yield f"    color: {'mono' if line.sample.images.shape[3] == 1 else 'bgr'}"
    if line.data.bit_depth > 8:
        yield f"    bits: {line.data.bit_depth}"
    if line.data.flat_end:
        yield "    flat_end: true"
    yield "    pace: max                 # as fast as the line accepts them"


def _render_engines(line: LineDescription) -> Iterator[str]:
    yield "# CHANGE: with the models in a store, add `store: FOLDER` and name the model without a"
    yield "# version, as model: my-gate. The line then runs the live version, such as INT8."
    yield "engines:"
    backend = "ov" if is_installed("openvino") else "ort"
    for role, folder in line.engines.items():
        yield f"  {role}: {{type: {backend}, model: {quote_yaml(folder.absolute())}}}"


def _models(line: LineDescription) -> str:
    return " and ".join(f"{role} {folder.parent.name}" for role, folder in line.engines.items())


def quote_yaml(value: str | Path) -> str:
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
