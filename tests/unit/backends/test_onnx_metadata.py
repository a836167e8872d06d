"""The metadata reader against the onnx package, and against files that are none."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.backends._onnx_metadata import read_metadata
from tests import graphs

ENGINES = Path(__file__).resolve().parents[3] / "engines"


@pytest.mark.parametrize("path", sorted(ENGINES.rglob("*.onnx")), ids=lambda p: p.parts[-3])
def test_it_reads_what_onnx_reads(path: Path) -> None:
    wanted = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert wanted
    assert read_metadata(path) == wanted


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=5))
def test_any_metadata(tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("metadata") / "model.onnx"
    model = graphs.gate()
    onnx.helper.set_model_props(model, wanted)
    path.write_bytes(model.SerializeToString())
    assert read_metadata(path) == wanted


@pytest.mark.parametrize("data", [b"\0" * 64, b"this is no graph\n" * 100])
def test_no_message_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"."):
        read_metadata(path)


def test_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    whole = graphs.segmenter().SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut"):
        read_metadata(path)
