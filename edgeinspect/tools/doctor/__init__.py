"""Doctor: checks whether this PC is set up so that a line keeps its budget, with remedies.

It changes nothing. Files of /proc, /sys and /etc are read below a root, so that tests can replace
them.
"""

from edgeinspect.tools.doctor.checks import run_checks
from edgeinspect.tools.doctor.diagnostic import Diagnostic, DiagnosticSeverity
from edgeinspect.tools.doctor.host import Host

__all__ = ["Diagnostic", "Host", "DiagnosticSeverity", "run_checks"]
