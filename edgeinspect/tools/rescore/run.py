"""The run: one result file per chunk, written atomically; existing ones are not repeated."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edgeinspect.domain import ModelSpec
from edgeinspect.errors import DataError, OutputError
from edgeinspect.system import (
    MODEL_BYTES_MAX,
    DecodeError,
    TableWriter,
    atomic_file,
    claim_folder,
    decode_json,
    read_regular,
    write_atomic,
)
from edgeinspect.tools.rescore.plan import (
    RescoreFrame,
    RescorePlan,
    chunk_result_path,
    open_plan,
    pending_chunks,
    read_chunks,
)
from edgeinspect.tools.rescore.runners import ChunkRunner
from edgeinspect.tools.rescore.scorer import FrameScore, ScorerConfig

RESULTS_FILE, SUMMARY_FILE = "results.csv", "summary.json"
OnRescoreProgress = Callable[[int, int, int], None]
"""Called with (frames done in earlier runs, done in this run, total)."""
_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """Result of a complete run."""

    plan: RescorePlan
    frame_count: int
    problem_count: int
    summary: dict[str, object]


def rescore(
    source: Path,
    out: Path,
    config: ScorerConfig,
    spec: ModelSpec,
    runner: ChunkRunner,
    *,
    chunk_frames: int = 64,
    threshold: float | None = None,
    progress: OnRescoreProgress = lambda before, now, total: None,
) -> RescoreResult:
    """Score every frame of a source exactly once, or resume an interrupted run.

    Args:
        source: An archive, or a folder of images.
        out: The run's own folder.
        config: What the workers load.
        spec: The model that `config` names.
        runner: Where the workers run.
        chunk_frames: Frames per result file; at most this many per worker are lost on a kill.
        threshold: A gate's; frames whose decision would change are counted.
        progress: Called after every chunk.

    Raises:
        DataError: There is no frame, `out` contains another run, or a result file is damaged.
        OutputError: `out` cannot be written; resume when it can. Or another process does this run.
        DeviceLostError: The runner is lost.
    """
    try:
        with claim_folder(out):
            plan = open_plan(
                out,
                source,
                model=str(spec.id),
                sha256=spec.id.sha256,
                backend=config.backend,
                chunk_frames=chunk_frames,
            )
            _score_pending(out, plan, config, runner, progress)
            return _write_results(out, plan, threshold)
    except OSError as error:
        raise OutputError(
            f"cannot be written: {error.strerror or error}",
            where=str(out),
            remedy="Run it again to resume",
        ) from error


def _score_pending(
    out: Path,
    plan: RescorePlan,
    config: ScorerConfig,
    runner: ChunkRunner,
    progress: OnRescoreProgress,
) -> None:
    sizes = {number: len(frames) for number, frames in pending_chunks(out)}
    before = plan.frames - sum(sizes.values())
    progress(before, 0, plan.frames)
    if not sizes:
        return
    done = 0
    for number, result_lines in runner.run(config, pending_chunks(out)):
        path = chunk_result_path(out, number)
        if path.exists():  # a worker was lost after its result, and another repeated it
            continue
        if result_lines.count(b"\n") != sizes[number]:
            raise DataError(
                f"chunk {number} has {result_lines.count(10)} results for {sizes[number]} frames",
                where=str(out),
            )
        write_atomic(path, result_lines)
        done += sizes[number]
        progress(before, done, plan.frames)


def _write_results(out: Path, plan: RescorePlan, threshold: float | None) -> RescoreResult:
    """Check the results against the plan, frame by frame, and write the table."""
    text = io.StringIO()
    rows = TableWriter(text)
    rows.writerow(["frame", "line_says", "line_prob", "defect_prob", "classes", "problem"])
    statistics = _RunStatistics(threshold)
    with atomic_file(out / RESULTS_FILE) as file:
        for frame, result in read_results(out):
            statistics.add(frame, result)
            rows.writerow(
                [
                    frame.name,
                    frame.decision,
                    _format_number(frame.defect_prob),
                    _format_number(result.defect_prob),
                    " ".join(
                        f"{name}:{area:.0f}px:{result.score.get(name, 0):.3f}"
                        for name, area in result.area_px.items()
                    ),
                    result.problem,
                ]
            )
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
        if statistics.frames != plan.frames:
            raise DataError(
                f"has {statistics.frames} results for {plan.frames} frames", where=str(out)
            )
    summary = {"model": plan.model, "source": plan.source, **statistics.summary()}
    write_atomic(out / SUMMARY_FILE, msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return RescoreResult(plan, statistics.frames, statistics.problems, summary)


def read_results(out: Path) -> Iterator[tuple[RescoreFrame, FrameScore]]:
    """Yield every frame of a run with its result, in the plan's order.

    Raises:
        DataError: A result file is missing, or its frames are not those of the plan.
    """
    for number, frames in read_chunks(out):
        path = chunk_result_path(out, number)
        try:
            lines = read_regular(path, MODEL_BYTES_MAX).splitlines()
            scores = [decode_json(line, FrameScore) for line in lines]
        except (OSError, DecodeError) as error:
            raise DataError(
                f"cannot be read: {error}", where=str(path), remedy="Remove it, and run again"
            ) from error
        if [result.frame for result in scores] != [frame.name for frame in frames]:
            raise DataError(
                "contains other frames than its chunk",
                where=str(path),
                remedy="Remove it, and run again",
            )
        yield from zip(frames, scores, strict=True)


class _RunStatistics:
    """Statistics of a run, updated frame by frame."""

    def __init__(self, threshold: float | None) -> None:
        self.frames = self.problems = 0
        self._threshold = threshold
        self._scores: dict[str, list[float]] = {}
        self._classes: Counter[str] = Counter()
        self._transitions: Counter[str] = Counter()

    def add(self, frame: RescoreFrame, result: FrameScore) -> None:
        self.frames += 1
        self.problems += bool(result.problem)
        self._classes.update(result.area_px.keys())
        prob = result.defect_prob
        if prob is None:
            return
        decision = frame.decision or "unknown"
        self._scores.setdefault(decision, []).append(prob)
        if self._threshold is not None and decision in ("PASS", "REJECT"):
            now = "REJECT" if prob >= self._threshold else "PASS"
            self._transitions[f"{decision} -> {now}"] += 1

    def summary(self) -> dict[str, object]:
        scores = {
            decision: {
                f"p{round(q * 100):02d}": round(float(np.quantile(values, q)), 6)
                for q in _QUANTILES
            }
            for decision, values in sorted(self._scores.items())
        }
        return {
            "frames": self.frames,
            "problems": self.problems,
            "defect_prob_by_what_the_line_said": scores,
            "frames_with_class": dict(sorted(self._classes.items())),
            "threshold": self._threshold,
            "line_said_and_now": dict(sorted(self._transitions.items())),
        }


def _format_number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
