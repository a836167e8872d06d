"""Verdicts: open frames, the closer, the deadline guard."""
