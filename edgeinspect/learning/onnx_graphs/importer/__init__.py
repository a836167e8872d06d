"""Import of ONNX models from other tools."""
