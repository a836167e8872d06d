"""Loads samples as arrays of one frame size, in memory or memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError, OutputError, UsageError
from edgeinspect.imaging import (
    ReadSettings,
    letterbox_image,
    letterbox_mask,
    read_image,
    to_channels,
)
from edgeinspect.learning.datasets.archive_frames import BinaryMask
from edgeinspect.learning.datasets.arrays import ImageArrays
from edgeinspect.learning.datasets.dataset import Dataset, Sample, SkippedImage, has_class
from edgeinspect.learning.datasets.masks.sources import MaskFile, MaskPerClass
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.system import TEXT_BYTES_MAX, decode_json, read_regular

MAX_IN_MEMORY_BYTES = 1 << 30
"""Larger arrays are memory-mapped files."""
MAX_BROKEN_COUNT = 2
"""This many broken files are accepted in any set, however small."""
MAX_BROKEN_RATIO = 0.2
"""A higher ratio of broken images is an error."""

_MAX_NAMES = 5
_SAMPLE_COUNT = 256
_COLOR_LEVELS = 2.0
"""Minimum mean difference between blue and red of a coloured image."""
_STRONG_LEVELS = 24
_COLOR_RATIO = 0.002
"""An image with this ratio of strongly coloured pixels, such as rust, is coloured too."""
_MAX_SIDE_PX = 2048
_MIN_SIDE_PX = 32
_COMMON_RATIO = 0.2
Progress = Callable[[int], None]


class _CacheIndex(TypedDict):
    """Which samples the arrays hold, as stored beside them."""

    kept: list[int]
    defective: list[bool]
    skipped: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _DecodedSample:
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    is_defective: bool


def load_arrays(
    data: Dataset,
    samples: Sequence[Sample],
    *,
    height_px: int,
    width_px: int,
    channels: int,
    cache: Path | None = None,
    progress: Progress = lambda done: None,
) -> ImageArrays:
    """Decode samples into frames of one size; images of another size are letterboxed.

    An image that cannot be read, or whose mask cannot, is skipped and listed in `skipped`.

    Args:
        data: Their data set.
        samples: The samples to load, in order.
        height_px: Height of the frames.
        width_px: Width of the frames.
        channels: 1, or 3 (BGR).
        cache: Folder for arrays above `MAX_IN_MEMORY_BYTES`; the next call with the same
            samples reuses them. A temporary file when absent.
        progress: Called with the number of samples done.

    Returns:
        Arrays in memory, or `np.memmap`s.

    Raises:
        DataError: No samples, too many or all broken.
        OutputError: No disk space for the arrays.
    """
    if channels not in (1, 3):
        raise UsageError(f"{channels} channels", remedy="Use 1 or 3")
    if not samples:
        raise DataError("there is no image to load", where=str(data.root))
    shape = (len(samples), height_px, width_px)
    if len(samples) * height_px * width_px * (channels + 1) <= MAX_IN_MEMORY_BYTES:
        images: NDArray[np.uint8] = np.zeros((*shape, channels), np.uint8)
        masks: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        cache_index = _decode_into(data, samples, images, masks, progress)
        return _to_arrays(data, samples, images, masks, cache_index)
    if cache is None:
        with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
            images = _map_file(first, (*shape, channels), "the temporary folder")
            masks = _map_file(second, shape, "the temporary folder")
        cache_index = _decode_into(data, samples, images, masks, progress)
        return _to_arrays(data, samples, images, masks, cache_index)
    return _load_cached(data, samples, (*shape, channels), cache, progress)


def _decode_into(
    data: Dataset,
    samples: Sequence[Sample],
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    progress: Progress,
) -> _CacheIndex:
    """Decode into the arrays without gaps; return which samples were kept and skipped."""
    height, width, channels = images.shape[1:]
    kept: list[int] = []
    defective: list[bool] = []
    skipped: list[tuple[str, str]] = []

    def work(sample: Sample) -> _DecodedSample | str:
        try:
            return _decode(sample, data.read_settings(), height, width, channels)
        except DataError as error:
            return f"{error.where}: {error.what}" if error.where else error.what

    for index, done in enumerate(map_in_threads(work, samples)):
        if isinstance(done, str):
            skipped.append((samples[index].name, done))
        else:
            images[len(kept)], masks[len(kept)] = done.image, done.mask
            kept.append(index)
            defective.append(done.is_defective)
        progress(index + 1)
    if len(skipped) > max(MAX_BROKEN_COUNT, MAX_BROKEN_RATIO * len(samples)) or len(skipped) == len(
        samples
    ):
        listing = "\n".join(f"  {name}: {why}" for name, why in skipped[:_MAX_NAMES])
        raise DataError(
            f"{len(skipped)} of {len(samples)} images cannot be used\n{listing}",
            where=str(data.root),
            remedy="List all with: edgeinspect data inspect",
        )
    return {"kept": kept, "defective": defective, "skipped": skipped}


def _decode(
    sample: Sample, reading: ReadSettings, height: int, width: int, channels: int
) -> _DecodedSample:
    image = read_image(sample.path, reading)
    mask = sample.read_mask(image.shape[0], image.shape[1])
    frame, scale, left_px, top_px = letterbox_image(to_channels(image, channels), height, width)
    placed = letterbox_mask(mask, scale, left_px, top_px, height, width)
    return _DecodedSample(frame, placed, sample.is_defective or has_class(mask))


def _to_arrays(
    data: Dataset,
    samples: Sequence[Sample],
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    cache_index: _CacheIndex,
) -> ImageArrays:
    count = len(cache_index["kept"])
    return ImageArrays(
        images[:count],
        masks[:count],
        np.asarray(cache_index["defective"], np.bool_),
        [samples[index].name for index in cache_index["kept"]],
        data.classes,
        np.array([_only_kind(samples[index]) for index in cache_index["kept"]], np.uint8),
        tuple(SkippedImage(name, why) for name, why in cache_index["skipped"]),
    )


def _only_kind(sample: Sample) -> int:
    return sample.class_ids[0] if sample.is_defective and len(sample.class_ids) == 1 else 0


# -- mapped files -------------------------------------------------------------------------


def _map_file(file: Any, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    """Map a file, allocated first: on a full disk, a write to a sparse mapping raises SIGBUS."""
    size = int(np.prod(shape, dtype=np.int64))
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise DataError(
            f"has no space for {size / 2**30:.1f} GiB of images: {error.strerror}",
            where=where,
            remedy="Use a cache folder with more space, or smaller frames",
        ) from error
    return np.memmap(file, np.uint8, "r+", shape=shape)


def _load_cached(
    data: Dataset,
    samples: Sequence[Sample],
    shape: tuple[int, ...],
    cache: Path,
    progress: Progress,
) -> ImageArrays:
    """Return the arrays of the cache, which is written first if missing."""
    base = cache / f"pictures-{_cache_key(data, samples, shape)}"
    files = [base.with_suffix(suffix) for suffix in (".images", ".masks", ".json")]
    if not all(file.exists() for file in files):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".making-") as making:
                _write_cache(data, samples, shape, Path(making), progress)
                for file in files:  # the JSON last: it marks the arrays as complete
                    os.replace(Path(making) / file.suffix[1:], file)
        except OSError as error:
            raise OutputError(f"cannot be written: {error.strerror}", where=str(cache)) from error
    else:
        progress(len(samples))
    try:
        cache_index = decode_json(read_regular(files[2], TEXT_BYTES_MAX), _CacheIndex)
        if any(not 0 <= index < len(samples) for index in cache_index["kept"]):
            raise ValueError("it indexes other images")
        images = np.memmap(files[0], np.uint8, "r", shape=shape)
        masks = np.memmap(files[1], np.uint8, "r", shape=shape[:3])
    except (OSError, ValueError) as error:
        raise DataError(
            f"is damaged: {error}", where=str(base), remedy="Remove it; it is written again"
        ) from error
    return _to_arrays(data, samples, images, masks, cache_index)


def _write_cache(
    data: Dataset,
    samples: Sequence[Sample],
    shape: tuple[int, ...],
    folder: Path,
    progress: Progress,
) -> None:
    with (folder / "images").open("w+b") as first, (folder / "masks").open("w+b") as second:
        images = _map_file(first, shape, str(folder))
        masks = _map_file(second, shape[:3], str(folder))
    cache_index = _decode_into(data, samples, images, masks, progress)
    (folder / "json").write_text(json.dumps(cache_index), encoding="utf-8")


def _cache_key(data: Dataset, samples: Sequence[Sample], shape: tuple[int, ...]) -> str:
    """Return a key that changes with every image, mask and size in the arrays."""
    digest = hashlib.sha256(repr((4, shape, data.bit_depth, data.flat_end, data.classes)).encode())
    for sample in samples:
        stamps = [_file_stamp(path) for path in (sample.path, *_mask_paths(sample.mask))]
        digest.update(repr((sample.name, sample.is_defective, sample.mask, stamps)).encode())
    return digest.hexdigest()[:20]


def _mask_paths(mask: object) -> list[Path]:
    """Return the files of a mask of any kind."""
    if isinstance(mask, MaskPerClass):
        return [path for _class_id, path in mask.files]
    if isinstance(mask, BinaryMask):
        mask = mask.file
    return [mask.path] if isinstance(mask, MaskFile) else []


def _file_stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (str(path), 0, 0)
    return (str(path), status.st_mtime_ns, status.st_size)


# -- the shape of the arrays ---------------------------------------------------------------


def common_size(data: Dataset) -> tuple[int, int]:
    """Return the default frame size, (height_px, width_px).

    The most common size if a fifth of the images have it; else the medians, in multiples of
    16. No side above 2048 (both are scaled down together) or below 32.

    Raises:
        DataError: None of the sampled images can be read.
    """
    sizes = np.asarray([size for *size, _is_colored in _sample_properties(data)])
    values, counts = np.unique(sizes, axis=0, return_counts=True)
    best = int(counts.argmax())
    if counts[best] >= _COMMON_RATIO * len(sizes):
        height, width = (int(side) for side in values[best])
    else:
        height, width = (_round16(float(side)) for side in np.median(sizes, axis=0))
    if (longest := max(height, width)) > _MAX_SIDE_PX:
        height = _round16(height * _MAX_SIDE_PX / longest)
        width = _round16(width * _MAX_SIDE_PX / longest)
    return max(_MIN_SIDE_PX, height), max(_MIN_SIDE_PX, width)


def infer_channels(data: Dataset) -> int:
    """Return 3 for coloured images, 1 for grey ones, even if stored as RGB.

    Raises:
        DataError: None of the sampled images can be read.
    """
    return 3 if any(colored for *_size, colored in _sample_properties(data)) else 1


def _round16(side: float) -> int:
    return max(1, round(side / 16)) * 16


def _sample_properties(data: Dataset) -> list[tuple[int, int, bool]]:
    """Return (height, width, is_colored) of evenly sampled readable images."""
    count = min(_SAMPLE_COUNT, len(data.samples))
    at = np.linspace(0, len(data.samples) - 1, count).astype(int)

    def work(index: int) -> tuple[int, int, bool] | DataError:
        try:
            image = read_image(data.samples[index].path, data.read_settings())
        except DataError as error:
            return error
        height_px, width_px = image.shape[:2]
        return height_px, width_px, is_colored(image)

    results = list(map_in_threads(work, at.tolist()))
    properties = [each for each in results if not isinstance(each, DataError)]
    if not properties:
        raise DataError(f"no image can be read; the first: {results[0]}", where=str(data.root))
    return properties


def is_colored(image: NDArray[np.uint8]) -> bool:
    """Return whether a (h, w, c) image is coloured, not grey stored three times."""
    if image.shape[2] != 3:
        return False
    some = image[::2, ::2].astype(np.int16)
    difference = np.abs(some[:, :, 0] - some[:, :, 2])
    strong = float((difference > _STRONG_LEVELS).mean())
    return float(difference.mean()) > _COLOR_LEVELS or strong > _COLOR_RATIO
