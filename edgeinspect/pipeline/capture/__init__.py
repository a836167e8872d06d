"""Capture: from the camera to a frame in the ring, triggers included."""
