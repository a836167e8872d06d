"""edgeinspect: inspects the frames of line cameras; every frame gets its verdict in time."""

__version__ = "0.1.0"
