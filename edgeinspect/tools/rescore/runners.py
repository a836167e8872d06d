"""Where chunks are scored: in this process, or by Ray's workers on one or more machines."""

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

NumberedChunks = Iterable[tuple[int, list[RescoreFrame]]]
_BATCH_CHUNKS = 2_000
"""Chunks that are passed to Ray at once."""
_LOCAL_ADDRESS = "local"


class ChunkRunner(Protocol):
    """Scores chunks, in any order."""

    def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
        """Yield (number, JSON lines of results) of each chunk as it is done."""
        ...


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Scores chunks one after the other in this process."""

    scorer: FrameScorer | None = None
    """Created from the configuration when None."""

    def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
        scorer = self.scorer or FrameScorer(config)
        for number, frames in chunks:
            yield number, scorer.score_chunk(frames)


@dataclass(frozen=True, slots=True)
class RayRunner:
    """Scores chunks by the workers of Ray Data, each with its own engine."""

    workers: int
    address: str = _LOCAL_ADDRESS
    """`local` starts Ray for this run; or the address of a cluster, as `ray://HOST:10001`. Images
    and models must have the same path on every machine of it."""
    gpus_per_worker: float = 0.0

    def run(self, config: ScorerConfig, chunks: NumberedChunks) -> Iterator[tuple[int, bytes]]:
        """Implement `ChunkRunner.run`.

        Raises:
            MissingExtraError: Ray is not installed.
            DeviceLostError: There is no cluster at that address, or it was lost.
        """
        ray, data = _import_ray()
        try:
            self._connect(ray)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            raise DeviceLostError(f"Ray does not respond: {error}", where=self.address) from error
        try:
            context = data.DataContext.get_current()
            context.enable_progress_bars = False
            for batch in batches(chunks, _BATCH_CHUNKS):
                yield from self._run_batch(data, config, batch)
        except ray.exceptions.RayError as error:
            raise DeviceLostError(
                f"Ray failed: {error}",
                where=self.address,
                remedy="Run it again to resume",
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
        self, data: Any, config: ScorerConfig, batch: list[tuple[int, list[RescoreFrame]]]
    ) -> Iterator[tuple[int, bytes]]:
        rows = [
            {"chunk": number, "frames": msgspec.json.encode(frames)} for number, frames in batch
        ]
        scored = data.from_items(rows, override_num_blocks=len(rows)).map(
            FrameScorer,
            fn_constructor_args=(config,),
            compute=data.ActorPoolStrategy(size=self.workers),
            num_cpus=1,
            num_gpus=self.gpus_per_worker or None,
        )
        for row in scored.iter_rows():
            yield int(row["chunk"]), bytes(row["results"])


def _import_ray() -> tuple[Any, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray, ray.data
