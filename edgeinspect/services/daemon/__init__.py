"""The daemon: runs one line, from its cameras to the wire."""
