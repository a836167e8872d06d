"""The whole calibration: frames and an FP32 model in, a proven INT8 version or a refusal out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.model import ModelKind, ModelSpec, Precision
from edgeinspect.errors import ModelError
from edgeinspect.learning.calibrate import qdq_placement, ranges
from edgeinspect.learning.calibrate import sampling as sample
from edgeinspect.learning.calibrate.acceptance import Acceptance, Bounds, accept
from edgeinspect.learning.calibrate.checkpoint import Notebook, Report, silent
from edgeinspect.learning.calibrate.distance import Distance
from edgeinspect.learning.calibrate.frames import FrameSet, open_frames
from edgeinspect.learning.calibrate.histogram import Histogram
from edgeinspect.learning.calibrate.input_range_check import check_likeness, statistics
from edgeinspect.learning.calibrate.layer_sensitivity import Blame, blame, layers_in_order, recover
from edgeinspect.learning.calibrate.method_selection import best, compare_methods
from edgeinspect.learning.calibrate.qdq_placement import Placement
from edgeinspect.learning.calibrate.range_methods import METHODS
from edgeinspect.learning.calibrate.sampling import Sample, Scan
from edgeinspect.learning.calibrate.sessions import default_backend, open_file, stage
from edgeinspect.learning.calibrate.space_to_depth import fold_stem
from edgeinspect.learning.onnx_graphs.graph import fold_batch_norms, load, other_floats
from edgeinspect.ports import Engine

RULES = "1"
"""Version of the placement's rules: another one makes another calibration."""
BEST = "best"
BLAME_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for."""

    parent: ModelSpec
    """The FP32 model, verified."""
    images: str
    """Frames to calibrate with; see `frames.open_frames`."""
    labels: str | None = None
    """Labelled frames to prove by; without them held-out frames must agree."""
    gate: ModelSpec | None = None
    """Scores the frames of a segmenter's calibration, for the strata."""
    method: str = BEST
    seed: int = 1
    count: int = 256
    held_out: int = 64
    blame_frames: int = BLAME_FRAMES
    """0 leaves blame out, unless it is needed to recover."""
    recover: bool = False
    most_float: int = 6
    """Layers that `recover` may leave in float."""
    keep_float: tuple[str, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    backend: str = ""
    """Runs the proofs; `ov` where it is installed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a calibration found, accepted or not."""

    request: Request
    backend: str
    graph: Any
    """The INT8 onnx.ModelProto, its metadata set."""
    id: str
    placement: Placement
    scan: Scan
    sample: Sample
    frames: FrameSet
    histograms: dict[str, Histogram]
    method: str
    distances: dict[str, Distance]
    acceptance: Acceptance
    first: Acceptance
    """Before anything was recovered; the same as `acceptance` where nothing was."""
    blame: Blame | None
    left_float: tuple[str, ...]
    drift: tuple[str, ...]
    notebook: Notebook
    """State on disk, to be forgotten once the version is written."""


class _Run:
    """One calibration under way: what the steps share."""

    def __init__(self, request: Request, work: Path, resume: bool, report: Report) -> None:
        self.request = request
        self.report = report
        self.backend = request.backend or default_backend()
        self.parent = request.parent
        self.model = prepare(self.parent)
        self.frames = open_frames(request.images, self.parent)
        self.labels = (
            None
            if request.labels is None
            else open_frames(request.labels, self.parent, labelled=True)
        )
        self.notebook = Notebook(work / self._key(), resume=resume)

    def _key(self) -> str:
        asked = self.request
        made_of = [
            RULES,
            self.parent.id.sha256,
            asked.gate.id.sha256 if asked.gate else "",
            asked.seed,
            asked.count,
            asked.held_out,
            list(asked.keep_float),
            self.frames.where,
            list(self.frames.names),
        ]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]

    def scan(self, frames: FrameSet, name: str) -> Scan:
        engine = open_file(self.request.gate or self.parent, self.backend)
        try:
            return sample.scan(
                frames, lambda image: score(engine, image), self.notebook, self.report, stage=name
            )
        finally:
            engine.close()

    def drift(self, found: Scan) -> tuple[str, ...]:
        """What does not look like the training, or else like the labelled frames.

        All frames are looked at, not those that were drawn: drawing evens the kinds out.

        Raises:
            DataError: They cannot be pictures that the model is for.
        """
        values = found.values[[digest != sample.BROKEN for digest in found.digests]]
        known = statistics(self.request.parent)
        check_likeness(values, None if known is None else known[0], self.frames.where)
        if known is not None:
            return tuple(sample.drift(values, known[0], known[1]))
        if self.labels is None:
            return ()
        other = self.scan(self.labels, "scan of the labelled").values
        return tuple(sample.drift(values, sample.deciles(other), len(other)))

    def proven(self, graph: Any, held_out: FrameSet, name: str) -> Acceptance:
        frames = self.labels or held_out
        child = stage(self.parent, graph, self.notebook.folder, name)
        parent_engine, child_engine = (open_file(s, self.backend) for s in (self.parent, child))
        try:
            return accept(
                parent_engine,
                child_engine,
                frames,
                self.request.bounds,
                lambda done: self.report(f"prove {name}", done, len(frames)),
            )
        finally:
            parent_engine.close()
            child_engine.close()

    def blamed(self, reach: dict[str, float], held_out: FrameSet) -> Blame:
        frames = self.labels or held_out
        count = self.request.blame_frames or BLAME_FRAMES
        return blame(self.parent, self.model, reach, telling(frames, count), self.report)


def calibrate(
    request: Request, work: Path, *, resume: bool = False, report: Report = silent
) -> Outcome:
    """Calibrate, compare, place, prove, and blame.

    Args:
        request: What is asked for.
        work: Folder for the state of unfinished calibrations.
        resume: Go on where a calibration of the same request was ended.
        report: Told how far it is.

    Returns:
        The outcome, which may be a refusal: see `Outcome.acceptance`.

    Raises:
        ModelError: The model cannot be quantized.
        DataError: The frames cannot be used.
    """
    try:
        return _calibrate(request, work, resume, report)
    except Exception as error:
        if not type(error).__module__.startswith(("onnx", "google.protobuf")):
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelError(
            f"{request.parent.id} cannot be quantized: {words[:240]}",
            where=str(request.parent.path),
            remedy="Export the network in float32 with standard operators, and import it again",
        ) from error


def _calibrate(request: Request, work: Path, resume: bool, report: Report) -> Outcome:
    run = _Run(request, work, resume, report)
    found = run.scan(run.frames, sample.STAGE)
    drift = run.drift(found)
    chosen = sample.draw(found, request.count, request.held_out, request.seed)
    held_out = run.frames.part(chosen.held_out)
    whole = qdq_placement.decide(run.model)
    placement = qdq_placement.decide(run.model, request.keep_float)
    histograms = ranges.collect(
        run.model, whole.tensors, run.frames.part(chosen.calibration), run.notebook, report
    )
    wanted = METHODS if request.method == BEST else (request.method,)
    reach = {name: ranges.reaches(histograms, name) for name in wanted}
    graphs = {name: qdq_placement.apply(run.model, placement, reach[name]) for name in wanted}
    distances = compare_methods(
        run.parent, graphs, held_out, run.notebook.folder, run.backend, report
    )
    method = best(distances)
    graph, left = graphs[method], request.keep_float
    first = acceptance = run.proven(graph, held_out, "int8")
    why = None
    if request.blame_frames or (request.recover and not first.accepted):
        why = run.blamed(reach[method], held_out)
    if request.recover and not first.accepted and why is not None:
        last: list[Acceptance] = []

        def holds(names: tuple[str, ...]) -> bool:
            made = qdq_placement.apply(
                run.model, qdq_placement.decide(run.model, names), reach[method]
            )
            last.append(run.proven(made, held_out, f"with {len(names)} in float"))
            return last[-1].accepted

        rescued = recover(why, holds, request.most_float)
        if rescued is not None:
            left = layers_in_order(placement, rescued)
            placement = qdq_placement.decide(run.model, left)
            graph = qdq_placement.apply(run.model, placement, reach[method])
            acceptance = run.proven(graph, held_out, "recovered")
    name = identity(request, found, chosen, method, placement, reach[method])
    describe(graph, request.parent, name)
    return Outcome(
        request,
        run.backend,
        graph,
        name,
        placement,
        found,
        chosen,
        run.frames,
        histograms,
        method,
        distances,
        acceptance,
        first,
        why,
        left,
        drift,
        run.notebook,
    )


def prepare(parent: ModelSpec) -> Any:
    """The FP32 graph as it is quantized: batch norms folded, its stem fit for int8.

    Raises:
        ModelError: It is not FP32.
    """
    if parent.precision is not Precision.FP32:
        raise ModelError(
            f"{parent.id} is {parent.precision.value} already",
            where=str(parent.path),
            remedy=_OF_FLOAT32,
        )
    model = load(parent.path)
    if other := other_floats(model):
        raise ModelError(
            f"{parent.id} computes in {other}, not in float32",
            where=str(parent.path),
            remedy=_OF_FLOAT32,
        )
    fold_batch_norms(model)
    fold_stem(model)
    return model


_OF_FLOAT32 = (
    "Calibrate the float32 version that it was made of: export the network in float32 (torch: "
    "model.float()) and import that; FP16 is made of it by `edgeinspect build`"
)


def score(engine: Engine, image: Pixels) -> float:
    """A gate's probability; a segmenter's best class score."""
    outputs: Any = engine.infer(image)
    if engine.spec.kind is ModelKind.GATE:
        return float(outputs[0][0])
    return float(np.max(outputs[2][0], initial=0.0))


def telling(frames: FrameSet, count: int) -> FrameSet:
    """Some frames that say most: of a labelled set, two thirds defective ones, evenly spread."""
    numbers = list(range(len(frames)))
    if frames.truth is None:
        return frames.part(_spread(numbers, count))
    # Labels of the first few hundred are enough to find some of each.
    looked = _spread(numbers, min(len(numbers), 40 * count))
    bad = [number for number in looked if frames.truth(number).defective]
    good = [number for number in looked if number not in set(bad)]
    wanted = min(len(bad), max(count - len(good), -(-2 * count // 3)))
    return frames.part(sorted([*_spread(bad, wanted), *_spread(good, count - wanted)]))


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """So many of them, evenly over their order."""
    if count >= len(numbers):
        return list(numbers)
    return [numbers[int((index + 0.5) * len(numbers) / count)] for index in range(count)]


def identity(
    request: Request,
    found: Scan,
    chosen: Sample,
    method: str,
    placement: Placement,
    reach: dict[str, float],
) -> str:
    """The calibration's id: a hash of the parent, the pictures, and all that was decided."""
    made_of = {
        "rules": RULES,
        "parent": request.parent.id.sha256,
        "sample": [found.digests[number] for number in chosen.calibration],
        "held_out": [found.digests[number] for number in chosen.held_out],
        "seed": request.seed,
        "method": method,
        "int8": [layer.name for layer in placement.quantized],
        "scales": {
            name: qdq_placement.scale_of(reach[name]).item().hex() for name in placement.tensors
        },
    }
    text = json.dumps(made_of, sort_keys=True)
    return "cal-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(graph: Any, parent: ModelSpec, name: str) -> None:
    """Let the graph say of itself what it is."""
    known = {entry.key for entry in graph.metadata_props}
    for key, value in (("edgeinspect.calibration", name), ("edgeinspect.parent", parent.id.sha256)):
        if key not in known:
            graph.metadata_props.add(key=key, value=value)
