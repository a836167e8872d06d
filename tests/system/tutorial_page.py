"""Reads a tutorial's page: its command blocks and the outputs shown below them, in order.

A fenced block `sh` is a command, `text` is what one prints. An HTML comment before a block says
more; readers do not see it:

- `tutorial: set-up`: run by the reader before the tutorial's folder exists.
- `tutorial: terminal NAME`: the command runs on, in a terminal of its own.
- `tutorial: output NAME`: what appears in that terminal meanwhile.
- `tutorial: stop NAME`: Ctrl-C in that terminal, and what appears then.
- `tutorial: service`: run as root on a PC with systemd.

The word `eventually` before a command says that its output takes a moment to be the shown one. The
word `similar` before an output says that numbers, times and hashes may be others, `rows` that only
the first cell of each row is the same; a line `...` stands for any lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- tutorial: (?P<comment>[^>]*?) -->\n)?^```(?P<kind>sh|text)\n(?P<body>.*?)^```$"
    r"|^<!-- tutorial: (?P<alone>stop [^>]*?) -->$",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\d+(?:[.,:]\d+)*")


@dataclass(frozen=True, slots=True)
class Step:
    """One block of the page."""

    kind: str
    """`run`, `start`, `output`, `stop`, `set-up` or `service`."""
    terminal: str
    """Of `start`, `output` and `stop`."""
    command: str
    shown: str
    """What the page shows of its output; empty if it shows nothing."""
    likeness: str
    """How exactly the output is the shown one: `exact`, `similar` or `rows`."""
    is_eventual: bool
    """The output of `run` and `service` takes a moment to be the shown one."""
    line: int
    """Of the page, for messages."""


def read_steps(page: Path) -> list[Step]:
    """Return the steps of a page in its order."""
    text = page.read_text(encoding="utf-8")
    steps: list[Step] = []
    for match in _BLOCK.finditer(text):
        words = (match["comment"] or match["alone"] or "").split()
        likeness = next((word for word in words if word in ("similar", "rows")), "exact")
        eventual = "eventually" in words
        words = [word for word in words if word not in ("similar", "rows", "eventually")]
        line = text.count("\n", 0, match.start()) + 1
        kind, terminal = (words[0] if words else ""), (words[1] if words[1:] else "")
        if match["kind"] == "sh":
            kind = {"terminal": "start", "": "run"}.get(kind, kind)
            steps.append(Step(kind, terminal, match["body"], "", "exact", eventual, line))
        elif kind in ("output", "stop"):
            steps.append(Step(kind, terminal, "", match["body"] or "", likeness, False, line))
        else:
            last = steps[-1]
            assert not last.shown, f"line {line}: two outputs of one command"
            steps[-1] = replace(last, shown=match["body"], likeness=likeness)
    return steps


def missing_lines(shown: str, printed: str, likeness: str, *, gaps: bool = False) -> list[str]:
    """Return the shown lines from the first on that was not printed; empty if all were.

    Args:
        shown: From the page.
        printed: By the command.
        likeness: `similar`: numbers and hashes may differ; `rows`: only first cells are compared.
        gaps: Other lines may be printed between the shown ones, and after them.
    """
    if likeness == "exact" and not gaps and "..." not in shown:  # wherever lines are wrapped
        return [] if shown.split() == printed.split() else shown.splitlines()
    wanted, lines = _comparable(shown, likeness), _comparable(printed, likeness)
    gaps = gaps or likeness == "rows"
    at, free = 0, gaps
    for number, line in enumerate(wanted):
        if line == "...":
            free = True
            continue
        found = next((i for i in range(at, len(lines)) if lines[i] == line), None)
        if found is None or (found != at and not free):
            return wanted[number:]
        at, free = found + 1, gaps
    return [] if at == len(lines) or free else [f"nothing more, but there was: {lines[at]}"]


def _comparable(text: str, likeness: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    if likeness == "rows":  # not what continues a cell of the row above
        lines = [re.split(r"\s{2,}", line)[0] for line in lines if not line.startswith(" ")]
    lines = [" ".join(line.split()) for line in lines]
    return lines if likeness == "exact" else [_NUMBER.sub("0", line) for line in lines]
