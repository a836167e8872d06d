"""Data sets of pictures: every layout gives the same records."""
