"""Models as graphs: changes of an ONNX file that keep its contract (docs/models.md)."""
