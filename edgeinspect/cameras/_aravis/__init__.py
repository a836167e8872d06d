"""libaravis through ctypes, and one connection to a camera."""
