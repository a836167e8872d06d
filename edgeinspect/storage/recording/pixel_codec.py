"""Pixels without loss: differences to the left neighbour, then zstd.

Of grey steel and tile pictures 70 to 75 % of the bytes are left, as with PNG, at some 2 ms a
megabyte instead of 20. Source: docs/decisions/0014-recordings.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeinspect.domain import Pixels
from edgeinspect.errors import DataError

if TYPE_CHECKING:
    import zstandard

LEFT_ZSTD = "left+zstd"
MAX_IMAGE_BYTES = 256 << 20
"""Largest picture that is packed or believed."""


class PixelPacker:
    """Packs pictures. One thread."""

    def __init__(self) -> None:
        """Load zstd; ModuleNotFoundError where the extra `record` is not installed."""
        import zstandard

        self._compressor: zstandard.ZstdCompressor = zstandard.ZstdCompressor(
            level=1, write_checksum=True, write_content_size=True
        )

    def pack(self, pixels: Pixels) -> bytes:
        """uint8 (H, W, C) as bytes for `unpack`; the pixels are not kept."""
        left = np.empty(pixels.shape, np.uint8)
        left[:, 0] = pixels[:, 0]
        np.subtract(pixels[:, 1:], pixels[:, :-1], out=left[:, 1:])  # modulo 256
        return self._compressor.compress(left.data)


def unpack_pixels(packing: str, data: bytes, dims: tuple[int, int, int]) -> Pixels:
    """The pixels as they were: uint8, shape `dims`, the caller's own.

    Raises:
        DataError: The data is damaged, or of another packing.
    """
    import zstandard

    if packing != LEFT_ZSTD:
        raise DataError(
            f"has a picture packed as {packing[:40]!r}, which is not known here",
            remedy="Use the version of edgeinspect that recorded it",
        )
    size = dims[0] * dims[1] * dims[2]
    if size > MAX_IMAGE_BYTES:
        raise DataError(f"has a picture of {size} bytes, more than {MAX_IMAGE_BYTES}")
    try:
        parameters = zstandard.get_frame_parameters(data)
        if parameters.content_size != size:  # before it allocates what the data claims
            raise DataError(
                f"has a picture of {parameters.content_size} bytes where "
                f"{'x'.join(map(str, dims))} are told"
            )
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise DataError(f"has a picture that cannot be unpacked: {error}") from error
    left = np.frombuffer(plain, np.uint8).reshape(dims)
    return np.add.accumulate(left, axis=1, dtype=np.uint8)
