"""`edgeinspect watch`: print a line's verdicts as they arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
from rich.text import Text

from edgeinspect.cli._command import Command
from edgeinspect.cli._json_output import json_option
from edgeinspect.cli._line_source import find_line_source, is_address
from edgeinspect.cli._paths import LINE
from edgeinspect.cli._ranges import FiniteRange, IntRange
from edgeinspect.cli._tables import terminal_width
from edgeinspect.cli._terminal import Console, echo_json
from edgeinspect.client import (
    LineVerifier,
    LineVerifiers,
    ReceivedMessage,
    Subscriber,
    check_address,
)
from edgeinspect.config import is_local
from edgeinspect.domain import Decision, Verdict
from edgeinspect.errors import DeviceLostError
from edgeinspect.system import escape_line, format_local
from edgeinspect.wire import Heartbeat, Status

NO_ANSWER_S = 1.5
"""Time without any message after which a line that never answered is reported."""
_NO_ANSWER_REMEDY = "Is the line running, and is this its publish.verdicts?"
_DETAIL_INDENT = 19
_COLOR = {Decision.PASS: "green", Decision.REJECT: "bold red", Decision.NO_VERDICT: "yellow"}


@click.command(
    cls=Command,
    examples=[
        ("Show every verdict of the line that runs on this PC", "edgeinspect watch"),
        ("Show the rejects of one line", "edgeinspect watch line.yaml --rejects"),
        (
            "Write ten verdicts as JSON, from another PC",
            "edgeinspect watch tcp://192.168.7.20:5590 --json --count 10",
        ),
    ],
)
@click.argument("line", metavar="[LINE]", required=False, type=LINE)
@json_option("edgeinspect.domain:Verdict", lines=True)
@click.option("--rejects", is_flag=True, help="Only rejects.")
@click.option("--count", metavar="N", type=IntRange(1), help="End after this many verdicts.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=FiniteRange(0.1),
    help="End with 75 after this many seconds without a heartbeat.",
)
@click.option(
    "--unproven", is_flag=True, help="Show also verdicts that are not in the line's spool."
)
def watch(
    line: str | None,
    as_json: bool,
    rejects: bool,
    count: int | None,
    timeout_s: float | None,
    unproven: bool,
) -> None:
    """Print a line's verdicts until stopped.

    LINE is the line's file, or the name or the address of the running line; without it, the
    line that runs on this PC. Reports when the heartbeat stops: without it nothing is
    inspected.
    """
    printer = _MessagePrinter(as_json, rejects)
    verifier: LineVerifier | LineVerifiers | None = None
    if line is None or not is_address(line):
        source = find_line_source(line)
        address, verifier = source.verdicts, None if unproven else source.verifier()
    else:
        address = line
        verifier = LineVerifiers() if is_local(address) and not unproven else None
    check_address(address)
    with Subscriber(address, verifier=verifier) as subscriber:
        last_message_s = time.monotonic()
        is_silent = True
        has_answered = is_reported = False
        reported_reason = ""
        while count is None or printer.printed < count:
            received = subscriber.receive(200)
            now = time.monotonic()
            if received is not None:
                if is_silent and isinstance(received.message, Heartbeat):
                    printer.print_note(f"line {received.message.line} answers")
                    is_silent, has_answered = False, True
                last_message_s = now
                printer.print_message(received)
                continue
            if subscriber.rejection_reason and subscriber.rejection_reason != reported_reason:
                printer.print_note(
                    f"another process sends in the line's name: {subscriber.rejection_reason}"
                )
            reported_reason = subscriber.rejection_reason
            if not is_silent and now - last_message_s > 1.0:
                printer.print_note("no heartbeat: this line is not inspected")
                is_silent = True
            if timeout_s is not None and now - last_message_s > timeout_s:
                raise DeviceLostError(
                    f"{'silent for' if has_answered else 'no answer in'} {timeout_s:g} s",
                    where=address,
                    remedy=_NO_ANSWER_REMEDY,
                )
            if timeout_s is None and not is_reported and now - last_message_s > NO_ANSWER_S:
                if not has_answered:
                    printer.print_note(f"{address}: no answer yet. {_NO_ANSWER_REMEDY}")
                is_reported = True
    if subscriber.missed and not rejects:
        printer.print_note(f"{subscriber.missed} verdicts were missed")


class _MessagePrinter:
    """Prints messages as JSON or as text."""

    def __init__(self, as_json: bool, rejects: bool) -> None:
        self.printed = 0
        self._as_json = as_json
        self._rejects_only = rejects
        self._console = Console()
        self._notes = Console(stderr=True)
        self._alarm = ""

    def print_note(self, text: str) -> None:
        """Print a note on stderr."""
        self._notes.print(Text(escape_line(text), style="dim"), soft_wrap=True)

    def print_message(self, received: ReceivedMessage) -> None:
        """Print one message, if the options select it."""
        message = received.message
        if isinstance(message, Verdict):
            if self._rejects_only and message.decision is not Decision.REJECT:
                return
            self.printed += 1
            if self._as_json:
                echo_json(received.body)
            else:
                for line in _verdict_lines(message, terminal_width()):
                    self._console.print(line, soft_wrap=True)
        elif isinstance(message, Heartbeat) and message.alarm != self._alarm:
            self.print_note(f"alarm: {message.alarm}" if message.alarm else "alarm cleared")
            self._alarm = message.alarm
        elif isinstance(message, Status) and not self._as_json and not self._rejects_only:
            counts = message.counts
            self.print_note(
                f"{message.rate_hz:g} frames/s, captured {counts.captured}, "
                f"reject {counts.reject}, no verdict {counts.no_verdict}, "
                f"p99 {message.latency_p99_us / 1000:.1f} of {message.budget_us / 1000:g} ms"
            )


def _verdict_lines(verdict: Verdict, width: int | None) -> Iterator[Text]:
    """Yield one verdict as one line; where it is too long for a terminal, its details follow."""
    head, details = _head(verdict), _details(verdict)
    if width is None or head.cell_len + sum(2 + each.cell_len for each in details) <= width:
        yield Text("  ").join((head, *details))
        return
    yield head
    indent = Text(" " * _DETAIL_INDENT)
    for line in Text("  ").join(details).wrap(Console(), max(1, width - _DETAIL_INDENT)):
        line.rstrip()
        yield indent + line


def _head(verdict: Verdict) -> Text:
    _day, _, at_time = format_local(verdict.captured_at_utc_ns, "milliseconds").partition("T")
    text = Text.assemble(
        (at_time, "dim"),
        f" {verdict.seq:>7} {escape_line(verdict.camera):<8} ",
        (f"{verdict.decision.value:<10}", _COLOR[verdict.decision]),
        f" {verdict.reason.value:<14}",
        (f" {verdict.stages.total_us / 1000:5.1f} ms", "dim"),
    )
    if verdict.defect_prob is not None:
        text.append(f"  p {verdict.defect_prob:.2f}")
    return text


def _details(verdict: Verdict) -> list[Text]:
    details = [
        Text(
            f"{escape_line(region.class_name)} {region.area_mm2:.0f} mm² "
            f"at {region.centroid_mm[0]:.0f},{region.centroid_mm[1]:.0f} mm",
            style="red",
        )
        for region in verdict.regions[:3]
        if region.fatal
    ]
    if verdict.kind_name:
        probs = {one.name: one.prob for one in verdict.kind_probs}
        prob = f" {probs[verdict.kind_name]:.2f}" if verdict.kind_name in probs else ""
        details.append(Text(f"{escape_line(verdict.kind_name)}{prob}", style="red"))
    check = verdict.unknown_check
    if check is not None and check.prob is not None and check.review:
        details.append(Text(f"unknown {check.prob:.2f}: for review", style="yellow"))
    if verdict.part_id:
        details.append(Text(f"part {escape_line(verdict.part_id)}"))
    details += [
        Text(escape_line(each), style="dim") for each in (verdict.label, verdict.detail) if each
    ]
    if verdict.degraded:
        details.append(Text("degraded", style="yellow"))
    return details
