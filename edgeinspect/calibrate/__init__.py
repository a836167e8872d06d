"""Calibration: an FP32 graph and frames in, a proven INT8 version of it out.

Needs onnx, onnxruntime and openvino (extra `cpu`, and `onnx`); torch is not needed.
"""
