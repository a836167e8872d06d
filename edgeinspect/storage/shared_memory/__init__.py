"""Shared memory: the folder, the frame ring, the side buffer."""
