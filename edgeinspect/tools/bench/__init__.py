"""The bench: what the line costs beside its engines, on this PC."""
