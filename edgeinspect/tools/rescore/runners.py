"""Spreading chunks over processors: in this process, or over Ray's workers, here or elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgeinspect.errors import DeviceLostError, MissingExtraError
from edgeinspect.tools.rescore.plan import Frame, waves
from edgeinspect.tools.rescore.scorer import Request, Scorer

Chunks = Iterable[tuple[int, list[Frame]]]
_WAVE = 2_000
"""Chunks that Ray is given at once."""
_LOCAL = "local"


class Runner(Protocol):
    """Judges chunks, in any order."""

    def run(self, request: Request, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        """(number, part) of each chunk as it is done."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """One after the other, in this process."""

    scorer: Scorer | None = None
    """For tests; made from the request when absent."""

    def run(self, request: Request, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        scorer = self.scorer or Scorer(request)
        for number, frames in todo:
            yield number, scorer.part(frames)


@dataclass(frozen=True, slots=True)
class OnRay:
    """Over the workers of Ray Data, each with an engine of its own."""

    workers: int
    address: str = _LOCAL
    """`local` starts Ray for this run alone; else a cluster's, as `ray://HOST:10001`. The
    pictures and the models must stand at the same path on every machine of it."""
    gpus_per_worker: float = 0.0

    def run(self, request: Request, todo: Chunks) -> Iterator[tuple[int, bytes]]:
        """As `Runner.run`.

        Raises:
            MissingExtraError: Ray is not installed.
            DeviceLostError: There is no cluster at that address, or it went away.
        """
        ray, data = _import_ray()
        try:
            self._begin(ray)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            raise DeviceLostError(f"Ray does not answer: {error}", where=self.address) from error
        try:
            context = data.DataContext.get_current()
            context.enable_progress_bars = False
            for wave in waves(todo, _WAVE):
                yield from self._one(data, request, wave)
        except ray.exceptions.RayError as error:
            raise DeviceLostError(
                f"Ray gave up: {error}",
                where=self.address,
                remedy="Run it again: it goes on where it was",
            ) from error
        finally:
            ray.shutdown()

    def _begin(self, ray: Any) -> None:
        options: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": False,
            "configure_logging": False,
        }
        if self.address == _LOCAL:
            options |= {"num_cpus": self.workers, "include_dashboard": False}
        ray.init(address=self.address, **options)

    def _one(
        self, data: Any, request: Request, wave: list[tuple[int, list[Frame]]]
    ) -> Iterator[tuple[int, bytes]]:
        rows = [{"chunk": number, "frames": msgspec.json.encode(frames)} for number, frames in wave]
        scored = data.from_items(rows, override_num_blocks=len(rows)).map(
            Scorer,
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
