"""What each exit code says; the help, the manual page and the documentation print it."""

from __future__ import annotations

from typing import NamedTuple

from edgeinspect import errors

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141


class ExitCode(NamedTuple):
    """Meaning of an exit code, and where to look then."""

    meaning: str
    remedy: str


EXIT_CODES: dict[int, ExitCode] = {
    errors.EXIT_OK: ExitCode("done", "nothing"),
    errors.EXIT_USAGE: ExitCode("wrong usage of the command", "`--help`"),
    errors.EXIT_DATAERR: ExitCode(
        "a model, data or records were refused", "the message names the file"
    ),
    errors.EXIT_UNAVAILABLE: ExitCode(
        "an optional library is missing", "the message has the command that installs it"
    ),
    errors.EXIT_SOFTWARE: ExitCode(
        "unexpected: a bug", "run again with `EDGEINSPECT_DEBUG=1`; report it"
    ),
    errors.EXIT_CANTCREAT: ExitCode(
        "an output cannot be written, or would replace what is there",
        "the message names it: rights, a free name",
    ),
    errors.EXIT_TEMPFAIL: ExitCode(
        "a camera or peer stayed away through all retries, or a resource is in use or full",
        "cable, power, address; disk and memory",
    ),
    errors.EXIT_CONFIG: ExitCode(
        "the configuration has faults; all are listed", "correct the lines named"
    ),
    EXIT_INTERRUPTED: ExitCode("stopped by Ctrl-C; `run` and other services end with 0", "nothing"),
    EXIT_PIPE: ExitCode("whoever read the output closed the pipe", "nothing"),
}
"""In ascending order."""
