"""Calibration: an FP32 graph and frames in, a proven INT8 version of it out.

Needs the extra `calibrate` (onnx, onnxruntime, openvino); torch is not needed.
Source: docs/calibration.md, docs/decisions/0012-calibration.md
"""
