"""Pretrained encoders: networks whose features gate, segmenter and good-parts model build on."""

from edgeinspect.learning.train.encoders.encoder import (
    STRIDES,
    Encoder,
    InputStatistics,
    first_convolution,
    take_bgr,
    take_grey,
)
from edgeinspect.learning.train.encoders.pretrained_weights import (
    NO_WEIGHTS,
    PretrainedWeights,
    find_pretrained,
)
from edgeinspect.learning.train.encoders.registry import (
    ENCODER_NAMES,
    build_encoder,
    is_encoder,
    load_encoder,
)

__all__ = [
    "ENCODER_NAMES",
    "NO_WEIGHTS",
    "STRIDES",
    "Encoder",
    "InputStatistics",
    "PretrainedWeights",
    "build_encoder",
    "find_pretrained",
    "first_convolution",
    "is_encoder",
    "load_encoder",
    "take_bgr",
    "take_grey",
]
