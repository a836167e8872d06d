"""The flow of a frame: capture, inbox, inspector, decide, guard, closing, publish, line.

The files stand in that order; docs/architecture.md walks one frame through them.
"""
