"""OpenVINO Model API: AsyncPipeline with raw results, two requests in flight."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

from job import Job
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model
from model_api.pipelines import AsyncPipeline


class Segmenter(Model):
    """Model API adapter for our contract: no pre- or postprocessing."""

    __model__ = "edgeinspect"

    def preprocess(self, inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image": inputs[None]}, {}

    def postprocess(self, outputs: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        return outputs


class Timed(AsyncPipeline):
    """Measures each inference, from the call to the library's callback."""

    def __init__(self, model: Model) -> None:
        self.engine_ns: dict[int, int] = {}
        super().__init__(model)

    def callback(self, request: Any, callback_args: Any) -> None:
        self.engine_ns[callback_args[0]] = int((time.perf_counter() - callback_args[3]) * 1e9)
        super().callback(request, callback_args)


def main() -> None:
    job = Job()
    properties = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": str(job.args.workers),
        "INFERENCE_NUM_THREADS": str(job.args.workers * max(1, job.args.threads)),
        "ENABLE_CPU_PINNING": "NO",
    }
    adapter = OpenvinoAdapter(
        create_core(),
        job.args.model,
        device="CPU",
        plugin_config=properties,
        max_num_requests=job.args.workers,
    )
    pipeline = Timed(Segmenter(adapter))
    for number in range(10):
        pipeline.submit_data(job.frames[0], -1 - number)
        pipeline.await_all()
        pipeline.get_result(-1 - number)
    shown, answered = 0, 0
    frames = job.source()
    while answered < job.count:
        got = pipeline.get_result(answered)
        if got is not None:
            out = got[0]
            # Two in flight share the processors, so the time of one is not the engine's.
            engine_ns = pipeline.engine_ns.pop(answered) if job.args.rate else 0
            job.done(
                answered,
                out["class_map"][0],
                out["class_area_px"][0],
                out["class_score"][0],
                engine_ns,
            )
            answered += 1
        elif shown < job.count and pipeline.is_ready():
            number, frame = next(frames)
            pipeline.submit_data(frame, number)
            shown += 1
            if job.args.rate:  # the caller's thread is the camera's too: it must poll
                pipeline.await_all()
        else:
            pipeline.await_any()
    version = importlib.metadata.version("openvino_model_api")
    job.finish(model_api=version, openvino=importlib.metadata.version("openvino"))


main()
