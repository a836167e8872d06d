"""The model under OpenVINO, for the peers that leave the call to their user."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import openvino


class Model:
    """One compiled model and one request."""

    def __init__(self, path: str, threads: int = 0) -> None:
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            properties["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        self._request = core.compile_model(path, "CPU", properties).create_infer_request()

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """(class_map, areas, scores, time inside the call in ns) of a uint8 (h, w, 1) frame."""
        tensor = openvino.Tensor(np.ascontiguousarray(frame)[None], shared_memory=True)
        before_ns = time.monotonic_ns()
        self._request.set_input_tensor(tensor)
        self._request.infer()
        engine_ns = time.monotonic_ns() - before_ns
        out = [
            self._request.get_tensor(name).data[0]
            for name in ("class_map", "class_area_px", "class_score")
        ]
        return out[0], out[1], out[2], engine_ns
