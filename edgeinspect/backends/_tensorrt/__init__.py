"""TensorRT: CUDA contexts, and building, caching and running plans."""
