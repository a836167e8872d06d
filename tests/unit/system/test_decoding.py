"""Decoding of what somebody else wrote: beside the fuzzing, what it cannot find."""

from __future__ import annotations

import io

import numpy as np
import pytest

from edgeinspect.system import decoding
from edgeinspect.system.decoding import DecodeError, decode_arrays


def packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_arrays_are_bounded_by_what_they_unpack_to(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(a=np.zeros(500_000), b=np.zeros(500_000))
    assert len(data) < 20_000
    assert set(decode_arrays(data)) == {"a", "b"}
    monkeypatch.setattr(decoding, "ARRAYS_BYTES_MAX", 5_000_000)
    with pytest.raises(DecodeError, match="bytes unpacked; the maximum is 5000000"):
        decode_arrays(data)
    assert set(decode_arrays(packed(a=np.zeros(500_000)))) == {"a"}
