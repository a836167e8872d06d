"""The doctor: is this PC set up so that a line can keep its budget? Each finding has its remedy.

It changes nothing, and looks at files of /proc, /sys and /etc under a root that tests choose.
"""

from edgeinspect.tools.doctor.checks import examine
from edgeinspect.tools.doctor.finding import Finding, State
from edgeinspect.tools.doctor.host import Machine

__all__ = ["Finding", "Machine", "State", "examine"]
