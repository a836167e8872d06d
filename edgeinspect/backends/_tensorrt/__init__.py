"""TensorRT: the CUDA driver, building plans, caching them, running them."""
