"""Offline work with models and data: data sets, training, evaluation, calibration, ONNX graphs."""
