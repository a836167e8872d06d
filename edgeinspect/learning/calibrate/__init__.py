"""Calibration: an FP32 graph and frames in, a proven INT8 version of it out.

Needs the extras `onnx` and `cpu`; torch is not needed.
Source: docs/calibration.md, docs/decisions/0012-calibration.md
"""
