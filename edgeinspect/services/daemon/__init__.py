"""The daemon: one line, from its cameras to the wire."""
