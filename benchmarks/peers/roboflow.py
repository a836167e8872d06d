"""Roboflow's InferencePipeline with the user's own logic, over a producer of ours."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

os.environ.setdefault("TELEMETRY_OPT_OUT", "True")
os.environ.setdefault("METRICS_ENABLED", "False")
import numpy as np
from inference import InferencePipeline
from inference.core.interfaces.camera.entities import (
    SourceProperties,
    VideoFrame,
    VideoFrameProducer,
)
from job import Job
from openvino_model import Model


class Producer(VideoFrameProducer):
    """The job's frames as a video source. It numbers them from 1."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._frames = job.source()
        self._frame: np.ndarray | None = None
        self._open = True

    def grab(self) -> bool:
        got = next(self._frames, None)
        self._open = got is not None
        self._frame = got[1] if got else None
        return self._open

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._frame is not None, self._frame

    def release(self) -> None:
        self._open = False

    def isOpened(self) -> bool:  # noqa: N802 - the library's name
        return self._open

    def discover_source_properties(self) -> SourceProperties:
        height, width = self._job.frames.shape[1:3]
        return SourceProperties(
            width=width,
            height=height,
            total_frames=self._job.count,
            is_file=True,
            fps=self._job.args.rate or 1000,
        )

    def initialize_source_properties(self, properties: dict[str, float]) -> None:
        pass


def main() -> None:
    job = Job()
    model = Model(job.args.model, job.args.threads)
    job.warm_up(model)

    def judge(frames: list[VideoFrame]) -> list[Any]:
        return [model(frame.image) for frame in frames]

    def sink(found: Any, frames: Any) -> None:
        job.done(frames.frame_id - 1, *found)

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=lambda: Producer(job),
        on_video_frame=judge,
        on_prediction=sink,
    )
    pipeline.start(use_main_thread=True)
    pipeline.join()
    job.finish(inference=importlib.metadata.version("inference-core"))


main()
