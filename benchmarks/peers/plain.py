"""The script that people write: a capture thread, a queue, resize, session.run, json, zmq."""

from __future__ import annotations

import queue
import threading
import time

import cv2
import numpy as np
import onnxruntime
from job import Job


def main() -> None:
    job = Job()
    session = onnxruntime.InferenceSession(job.args.model, providers=["CPUExecutionProvider"])
    height, width = session.get_inputs()[0].shape[1:3]
    frames: queue.Queue[tuple[int, np.ndarray] | None] = queue.Queue(maxsize=8)

    def capture() -> None:
        for number, frame in job.source():
            frames.put((number, frame.copy()))
        frames.put(None)

    def run(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        resized = cv2.resize(frame, (width, height))[None, :, :, None]
        before_ns = time.monotonic_ns()
        out = session.run(["class_map", "class_area_px", "class_score"], {"image": resized})
        return out[0][0], out[1][0], out[2][0], time.monotonic_ns() - before_ns

    job.warm_up(run)
    threading.Thread(target=capture, daemon=True).start()
    while (got := frames.get()) is not None:
        job.done(got[0], *run(got[1]))
    job.finish(onnxruntime=onnxruntime.__version__)


main()
