"""TensorRT plans for this GPU, and FP16 versions of models."""
