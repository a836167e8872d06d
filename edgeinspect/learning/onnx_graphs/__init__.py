"""Models as graphs: changes of an ONNX file that keep its contract (docs/reference/models.md)."""
