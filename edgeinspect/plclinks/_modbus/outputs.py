"""The output block of a Modbus server: the current image, and which result has been read.

A gateway that was stopped cannot withdraw a pass in time, and its server may answer before
the gateway's loop runs. So a pass that has not been read yet is not served after its act-by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeinspect.domain import Clock, ProcessImage
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.plclinks._modbus import protocol


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as registers and bits."""

    revision: int
    words: bytes
    bits: list[bool]
    pass_key: tuple[int, int] | None = None
    """(sequence generation, seq) of its pass, if that has an act-by."""
    act_by_at_ns: int = 0
    """Act-by of the pass, monotonic."""
    without_result: EncodedImage | None = None
    """The image without its result, served after the act-by."""


class ModbusServerOutputs:
    """The registers that the PLC reads. For the server's thread; `set_image` for any."""

    def __init__(self, clock: Clock, *, low_word_first: bool) -> None:
        """Start with a block of zeros; `low_word_first` is the order of 32-bit values."""
        self._clock = clock
        self._low_word_first = low_word_first
        self._block = EncodedImage(-1, bytes(2 * _register_map.OUTPUT_WORDS), [False] * 16)
        self._last_read_pass: tuple[int, int] | None = None
        """The pass that was read last; it may be read again after its act-by."""
        self.delivered = -1
        """Newest revision of which the result was read; -1 for none."""

    def set_image(self, image: ProcessImage) -> None:
        """Replace the current image."""
        block, result = self._encode(image), image.result
        if result is not None and image.passed and result.act_by_at_ns is not None:
            block = replace(
                block,
                pass_key=(image.sequence_generation, result.seq),
                act_by_at_ns=result.act_by_at_ns,
                without_result=self._encode(replace(image, revision=-1, result=None)),
            )
        self._block = block

    def readable_image(self) -> EncodedImage:
        """Return the image that may be read now."""
        block = self._block
        if block.without_result is None or block.pass_key == self._last_read_pass:
            return block
        return block if self._clock.now_ns() < block.act_by_at_ns else block.without_result

    def mark_read(self, block: EncodedImage) -> None:
        """Record that a response with its result has been sent."""
        self.delivered = max(self.delivered, block.revision)
        self._last_read_pass = block.pass_key or self._last_read_pass

    def _encode(self, image: ProcessImage) -> EncodedImage:
        words = _register_codec.encode_outputs(image)
        bits = protocol.unpack_bits(_register_map.status_word(image).to_bytes(2, "little"), 16)
        if self._low_word_first:
            words = _register_codec.swap_words(words, _register_map.OUTPUT_TAGS)
        return EncodedImage(image.revision, words, bits)
