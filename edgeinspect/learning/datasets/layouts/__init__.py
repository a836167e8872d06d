"""Layouts of data sets: one file each, found by listing this folder (see `open.py`)."""
