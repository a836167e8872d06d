"""A recorded shift: what is in the file, and how it is written and read.

Source: docs/decisions/0014-recordings.md
"""
