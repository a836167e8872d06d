"""Runs the feature network on frames, by ONNX Runtime: twice as fast as torch, as on the line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeinspect.learning.train.anomaly.cell_features import CellFeatures, cells_inside
from edgeinspect.learning.train.export import export_onnx

_MAX_CACHE_BYTES = 1 << 30


class _FeatureGraph(nn.Module):
    def __init__(self, features: CellFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        frame = image.to(torch.float32).permute(0, 3, 1, 2)
        return self.features(frame), cells_inside(frame, self.features.cell_px)


class FeatureRunner:
    """Features of frames of one size; those of the first frames are kept in float16.

    Args:
        features: The network.
        images: uint8 (N, H, W, C); read when asked for.
        threads: Of the processor.
    """

    def __init__(self, features: CellFeatures, images: NDArray[np.uint8], threads: int) -> None:
        import onnxruntime

        sample = torch.zeros((1, *images.shape[1:]), dtype=torch.uint8)
        model = export_onnx(_FeatureGraph(features), sample, ("features", "inside"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._images = images
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def of_image(self, number: int) -> tuple[Tensor, Tensor]:
        """Return (features (1, D, h, w), inside (1, 1, h, w)) of an image, float32."""
        if number in self._cache:
            features, inside = self._cache[number]
            return features.to(torch.float32), inside
        features, inside = self.of_frame(np.asarray(self._images[number]))
        # Kept and read again must be the same to the bit: both go through float16.
        half = features.to(torch.float16)
        if self._cached_bytes + half.nbytes <= _MAX_CACHE_BYTES:
            self._cache[number] = half, inside
            self._cached_bytes += half.nbytes
        return half.to(torch.float32), inside

    def of_frame(self, frame: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return (features, inside) of a frame uint8 (H, W, C) that is not kept."""
        feed = {"image": np.ascontiguousarray(frame)[None]}
        features, inside = self._session.run(["features", "inside"], feed)
        return torch.from_numpy(features), torch.from_numpy(inside)

    def turned(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features of an image's other orientations that fit into the frame.

        Quarter turns and mirror images of a square frame, half turns and mirror images else.
        """
        for frame in orientations(np.asarray(self._images[number])):
            yield self.of_frame(frame)


def orientations(frame: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """Return the turned frames of the same shape, without the frame itself."""
    is_square = frame.shape[0] == frame.shape[1]
    return [np.rot90(frame, turns) for turns in ((1, 2, 3) if is_square else (2,))]
