"""The output block of a Modbus server: one image at a time, and what of it has been read.

A gateway that stood still cannot withdraw a pass in time, and its server may answer before it
looks again. So a pass that nobody has read yet is not given out past its act-by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeinspect.domain import Clock, ProcessImage
from edgeinspect.plclinks import _register_map
from edgeinspect.plclinks._modbus import protocol


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image as it is read."""

    revision: int
    words: bytes
    bits: list[bool]
    pass_key: tuple[int, int] | None = None
    """(numbering, seq) of the pass in it, if that has an act-by."""
    act_by_at_ns: int = 0
    """Its act-by, monotonic."""
    without_result: EncodedImage | None = None
    """The same without a result: what is read from then on."""


class ModbusServerOutputs:
    """`show` may be called from any thread, the rest is for the server's."""

    def __init__(self, clock: Clock, *, low_word_first: bool) -> None:
        """Zeros are shown; `little`: the low word of a 32-bit value comes first."""
        self._clock = clock
        self._low_word_first = low_word_first
        self._block = EncodedImage(-1, bytes(2 * _register_map.OUTPUT_WORDS), [False] * 16)
        self._last_read_pass: tuple[int, int] | None = None
        """The pass that was read last: whoever has it may read it again."""
        self.delivered = -1
        """Newest revision of which the result was read."""

    def set_image(self, image: ProcessImage) -> None:
        """Put the next image in the place of the one before."""
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
        """What may be read now."""
        block = self._block
        if block.without_result is None or block.pass_key == self._last_read_pass:
            return block
        return block if self._clock.now_ns() < block.act_by_at_ns else block.without_result

    def mark_read(self, block: EncodedImage) -> None:
        """An answer with its result has left."""
        self.delivered = max(self.delivered, block.revision)
        self._last_read_pass = block.pass_key or self._last_read_pass

    def _encode(self, image: ProcessImage) -> EncodedImage:
        words = _register_map.encode_outputs(image)
        bits = protocol.unpack_bits(_register_map.status_word(image).to_bytes(2, "little"), 16)
        if self._low_word_first:
            words = _register_map.swap_words(words, _register_map.OUTPUT_TAGS)
        return EncodedImage(image.revision, words, bits)
