"""The path of a frame: capture, verdicts, inspection, publishing, supervision, shadow.

`line.py` creates the components and runs their threads; docs/explanation/architecture.md follows
one frame through them.
"""
