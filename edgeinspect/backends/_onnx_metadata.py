"""Reads the metadata of an ONNX file without the onnx package, which a line does not install.

Source: onnx.proto (ModelProto.metadata_props is field 14)
"""

from __future__ import annotations

from pathlib import Path

from edgeinspect.system import MODEL_BYTES_MAX, read_protobuf_fields, read_regular

METADATA_FIELD = 14


def read_metadata(path: Path) -> dict[str, str]:
    """Return the file's `metadata_props`.

    Raises:
        ValueError: It is cut, or is not a protobuf message.
        OSError: It cannot be read.
    """
    metadata: dict[str, str] = {}
    for field, value in read_protobuf_fields(memoryview(read_regular(path, MODEL_BYTES_MAX))):
        if field == METADATA_FIELD and isinstance(value, memoryview):
            entry = {
                key: bytes(text).decode()
                for key, text in read_protobuf_fields(value)
                if isinstance(text, memoryview)
            }
            metadata[entry.get(1, "")] = entry.get(2, "")
    return metadata
