"""Spreading chunks over processors: in this process, or over Ray's workers, here or elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgeinspect.errors import DeviceLostError, MissingExtraError
from edgeinspect.tools.rescore.plan import RescoreFrame, batches
from edgeinspect.tools.rescore.scorer import FrameScorer, ScorerConfig

Chunks = Iterable[tuple[int, list[RescoreFrame]]]
_BATCH_CHUNKS = 2_000
"""Chunks that Ray is given at once."""
_LOCAL_ADDRESS = "local"


class ChunkRunner(Protocol):
    """Judges chunks, in any order."""

    def run(self, request: ScorerConfig, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        """(number, part) of each chunk as it is done."""
        ...


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """One after the other, in this process."""

    scorer: FrameScorer | None = None
    """For tests; made from the request when absent."""

    def run(self, request: ScorerConfig, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        scorer = self.scorer or FrameScorer(request)
        for number, frames in todo:
            yield number, scorer.score_chunk(frames)


@dataclass(frozen=True, slots=True)
class RayRunner:
    """Over the workers of Ray Data, each with an engine of its own."""

    workers: int
    address: str = _LOCAL_ADDRESS
    """`local` starts Ray for this run alone; else a cluster's, as `ray://HOST:10001`. The
    pictures and the models must stand at the same path on every machine of it."""
    gpus_per_worker: float = 0.0

    def run(self, request: ScorerConfig, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        """As `ChunkRunner.run`.

        Raises:
            MissingExtraError: Ray is not installed.
            DeviceLostError: There is no cluster at that address, or it went away.
        """
        ray, data = _import_ray()
        try:
            self._connect(ray)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            raise DeviceLostError(f"Ray does not answer: {error}", where=self.address) from error
        try:
            context = data.DataContext.get_current()
            context.enable_progress_bars = False
            for wave in batches(todo, _BATCH_CHUNKS):
                yield from self._run_batch(data, request, wave)
        except ray.exceptions.RayError as error:
            raise DeviceLostError(
                f"Ray gave up: {error}",
                where=self.address,
                remedy="Run it again: it goes on where it was",
            ) from error
        finally:
            ray.shutdown()

    def _connect(self, ray: Any) -> None:
        options: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "configure_logging": False,
        }
        if self.address == _LOCAL_ADDRESS:
            options |= {"num_cpus": self.workers, "include_dashboard": False}
        ray.init(address=self.address, **options)

    def _run_batch(
        self, data: Any, request: ScorerConfig, wave: list[tuple[int, list[RescoreFrame]]]
    ) -> Iterator[tuple[int, bytes]]:
        rows = [{"chunk": number, "frames": msgspec.json.encode(frames)} for number, frames in wave]
        scored = data.from_items(rows, override_num_blocks=len(rows)).map(
            FrameScorer,
            fn_constructor_args=(request,),
            compute=data.ActorPoolStrategy(size=self.workers),
            num_cpus=1,
            num_gpus=self.gpus_per_worker or None,
        )
        for row in scored.iter_rows():
            yield int(row["chunk"]), bytes(row["part"])


def _import_ray() -> tuple[Any, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a plant tells nobody what it does
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray, ray.data
