"""The doctor: is this PC set up so that a line can keep its budget? Each finding has its remedy.

It changes nothing, and looks at files of /proc, /sys and /etc under a root that tests choose.
"""

from edgeinspect.doctor.examine import examine
from edgeinspect.doctor.finding import Finding, State
from edgeinspect.doctor.machine import Machine

__all__ = ["Finding", "Machine", "State", "examine"]
