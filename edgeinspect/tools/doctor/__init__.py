"""The doctor: is this PC set up so that a line can keep its budget? Each finding has its remedy.

It changes nothing, and looks at files of /proc, /sys and /etc under a root that tests choose.
"""

from edgeinspect.tools.doctor.checks import run_checks
from edgeinspect.tools.doctor.diagnostic import Diagnostic, Severity
from edgeinspect.tools.doctor.host import Host

__all__ = ["Diagnostic", "Host", "Severity", "run_checks"]
