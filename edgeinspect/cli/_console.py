"""Rich's console, which leaves a closed pipe to `main`: it knows the exit code."""

from __future__ import annotations

import errno
import os

import rich.console


class Console(rich.console.Console):
    """Rich's own ends the process with 1 when the reader of a pipe has left."""

    def on_broken_pipe(self) -> None:
        """Nobody reads.

        Raises:
            BrokenPipeError: On stdout. Remarks on stderr are dropped, and the work goes on.
        """
        self.quiet = True
        if not self.stderr:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
