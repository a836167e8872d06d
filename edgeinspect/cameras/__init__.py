"""Camera plugins, one file each. The file's name is the `type:` in the configuration."""

from edgeinspect.cameras._frame_rate import FramePacer

__all__ = ["FramePacer"]
