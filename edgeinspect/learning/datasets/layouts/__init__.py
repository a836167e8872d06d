"""Data set layouts, one module each, found by listing this folder (see `open.py`)."""
