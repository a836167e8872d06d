"""Aravis: its library through ctypes, and one camera session."""
