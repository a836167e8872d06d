"""Post-training quantization: calibrates an FP32 model to INT8 and verifies the result.

Needs the extras `onnx` and `cpu`; torch is not needed.
Source: docs/calibration.md, docs/decisions/0012-calibration.md
"""
