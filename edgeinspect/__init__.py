"""edgeinspect: frames in, verdicts out, one for every frame, in time."""

__version__ = "0.1.0"
