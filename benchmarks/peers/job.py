"""The job that every peer does: frames at a rate, one model, regions, one JSON message each.

A peer only differs in what carries the frame to the model and its result back. Reading of
frames, regions, decision and message are this file, for all of them. It needs numpy,
opencv-python and pyzmq, so that it runs in every peer's own environment.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zmq

AREA_MIN = 25


class Job:
    """One run of one peer: frames, clock, results."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--frames", required=True, help="npy, uint8 (n, height, width, 1)")
        parser.add_argument("--model", required=True)
        parser.add_argument("--count", type=int, required=True)
        parser.add_argument("--rate", type=float, default=0.0, help="frames/s; 0: all at once")
        parser.add_argument("--workers", type=int, default=1)
        parser.add_argument("--threads", type=int, default=0)
        parser.add_argument("--out", required=True)
        self.args = parser.parse_args()
        self.frames = np.load(self.args.frames)
        self.count: int = self.args.count
        self._captured = [0] * self.count
        self._engine = [0] * self.count
        self._sent = [0] * self.count
        self._lock = threading.Lock()
        self._socket = zmq.Context.instance().socket(zmq.PUB)
        self._socket.bind("tcp://127.0.0.1:*")

    def warm_up(self, infer: Callable[[np.ndarray], Any], rounds: int = 10) -> None:
        """Run the model before the first frame."""
        for number in range(rounds):
            infer(self.frames[number % len(self.frames)])

    def source(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame uint8 (h, w, 1)) when each is due, like a camera."""
        period_ns = int(1e9 / self.args.rate) if self.args.rate else 0
        due_ns = time.monotonic_ns()
        for number in range(self.count):
            due_ns += period_ns
            if period_ns:
                left_ns = due_ns - time.monotonic_ns()
                if left_ns > 0:
                    time.sleep(left_ns / 1e9)
                self._captured[number] = due_ns
            else:
                self._captured[number] = time.monotonic_ns()
            yield number, self.frames[number % len(self.frames)]

    def done(
        self,
        number: int,
        class_map: np.ndarray,
        areas: np.ndarray,
        scores: np.ndarray,
        engine_ns: int,
    ) -> None:
        """Compute regions, decision and message of a frame. Thread-safe.

        Args:
            number: Of the frame.
            class_map: uint8 (h, w).
            areas: (K,) pixels per class, from the graph.
            scores: (K,).
            engine_ns: Time inside the engine's call; 0 if the peer cannot tell.
        """
        regions = []
        for index in np.flatnonzero(areas):
            binary = (class_map == index + 1).view(np.uint8)
            count, _labels, stats, centres = cv2.connectedComponentsWithStats(binary)
            for row in range(1, count):
                regions.append(
                    {
                        "class": int(index) + 1,
                        "area": int(stats[row, 4]),
                        "box": [int(value) for value in stats[row, :4]],
                        "centre": [float(value) for value in centres[row]],
                        "score": float(scores[index]),
                    }
                )
        regions.sort(key=lambda region: -region["area"])
        verdict = {
            "frame": number,
            "decision": "REJECT" if any(r["area"] >= AREA_MIN for r in regions) else "PASS",
            "regions": regions[:8],
            "captured_ns": self._captured[number],
        }
        body = json.dumps(verdict).encode()
        with self._lock:
            self._socket.send_multipart([b"verdict", body])
        self._engine[number] = engine_ns
        self._sent[number] = time.monotonic_ns()

    def finish(self, **about: str) -> None:
        """Write the result."""
        sent = [number for number in range(self.count) if self._sent[number]]
        latency = [self._sent[number] - self._captured[number] for number in sent]
        document = {
            "about": about,
            "count": self.count,
            "answered": len(sent),
            "wall_ns": max(self._sent) - min(self._captured),
            "latency_ns": latency,
            "engine_ns": [self._engine[number] for number in sent],
        }
        Path(self.args.out).write_text(json.dumps(document), encoding="utf-8")
