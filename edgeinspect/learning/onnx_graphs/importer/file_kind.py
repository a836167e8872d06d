"""What a file is that is no ONNX file: by its first bytes, with the way to one that is."""

from __future__ import annotations

from pathlib import Path

from edgeinspect.system import open_regular

_HEAD_BYTES = 64
_TORCH = "Export the network: torch.onnx.export(model.eval(), example, 'model.onnx')"
_KERAS = "Convert it: python -m tf2onnx.convert"
_SIGNATURES = (
    (
        0,
        b"PK\x03\x04",
        "a zip archive, as PyTorch (.pt) and Keras (.keras) write",
        f"{_TORCH}, or "
        "for Keras python -m tf2onnx.convert; unpack an archive that holds an ONNX file",
    ),
    (0, b"\x80\x02", "a pickled object, as PyTorch writes", _TORCH),
    (0, b"\x80\x03", "a pickled object, as PyTorch writes", _TORCH),
    (0, b"\x80\x04", "a pickled object, as PyTorch writes", _TORCH),
    (0, b"\x80\x05", "a pickled object, as PyTorch writes", _TORCH),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _KERAS),
    (4, b"TFL3", "a TensorFlow Lite file", f"{_KERAS} --tflite"),
    (0, b"ftrt", "a TensorRT plan", "Give the ONNX file that it was built of"),
    (0, b"ptrt", "a TensorRT plan", "Give the ONNX file that it was built of"),
    (0, b"version https://git-lfs", "a pointer to a file in Git LFS", "Fetch it: git lfs pull"),
    (
        0,
        b"<",
        "a text of XML or HTML",
        "Give the ONNX file: OpenVINO's IR is made of one, and a "
        "web page is what a download without permission gives",
    ),
    (0, b"\x1f\x8b", "a file compressed by gzip", "Unpack it"),
)


def identify_file(path: Path) -> tuple[str, str] | None:
    """A foreign file in words and the remedy; None for what may be an ONNX file.

    Raises:
        DataError: It is no regular file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    for at, magic, words, remedy in _SIGNATURES:
        if head[at:].startswith(magic):
            return words, remedy
    return None
