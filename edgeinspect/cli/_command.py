"""Commands and groups of the command line: examples in the help, renamed options, suggestions."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click

LAST_OPTIONS = ("--log-format", "--log-level", "--json-file", "--quiet", "--json", "--help")
"""Options that stand last in the help of every command that has them, in this order."""


class Example(NamedTuple):
    """One call of a command, shown in its help."""

    purpose: str
    line: str
    """The whole command line; a test parses it."""


class MissingParameters(click.MissingParameter):
    """Several required parameters are missing; all are named."""

    def __init__(self, spellings: Sequence[str], ctx: click.Context) -> None:
        super().__init__(ctx=ctx)
        self.spellings = tuple(spellings)

    def format_message(self) -> str:
        """Return the message."""
        return f"these are missing: {', '.join(self.spellings)}."


class Command(click.Command):
    """A command with examples.

    Args:
        examples: Purpose and command line of each, the most frequent first.
        renamed: Earlier spelling of an option to what replaces it, as `--line FILE`. The earlier
            spelling is refused with that text.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        renamed: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.examples = tuple(Example(*example) for example in examples)
        self.renamed = dict(renamed or {})

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters: those of the command's own, then what many commands have."""
        return sorted(super().get_params(ctx), key=_rank)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an option's earlier spelling is refused with its present one.

        Raises:
            UsageError: Names all required parameters that are missing, not the first alone.
        """
        given = list(args)  # the parser empties its list
        try:
            rest = super().parse_args(ctx, args)
        except click.MissingParameter:
            missing = self.missing_parameters(ctx, given)
            if len(missing) < 2:
                raise
            raise MissingParameters(missing, ctx) from None
        except click.NoSuchOption as error:
            if error.option_name in self.renamed:
                raise click.UsageError(
                    f"{error.option_name} is now {self.renamed[error.option_name]}", ctx
                ) from None
            raise
        from edgeinspect.cli._output_path import refuse_own_input  # not for the list of commands

        refuse_own_input(self, ctx)
        return rest

    def missing_parameters(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return the required parameters that are not in `args`, as `--size HxW`."""
        given, _rest, _order = self.make_parser(ctx).parse_args(args=list(args))
        return [
            _spelling(parameter, ctx)
            for parameter in self.get_params(ctx)
            if parameter.required and not _is_given(given.get(parameter.name or ""))
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            OutputError: The system refused to write below a path that was given as an output.
        """
        try:
            return super().invoke(ctx)
        except OSError as error:
            from edgeinspect.cli._output_path import refuse_failed_output

            refuse_failed_output(error, self, ctx)
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group with examples, whose commands are listed in the order of their definition."""

    command_class = Command

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.examples = tuple(Example(*example) for example in examples)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of definition."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` name; an unknown name is refused with similar ones."""
        name = args[0]
        if name.startswith("-") or ctx.resilient_parsing or name in (known := self._names(ctx)):
            return super().resolve_command(ctx, args)
        close = suggest(name, known)
        remedy = f"Did you mean {close}?" if close else f"There are: {', '.join(known)}."
        raise click.UsageError(f"there is no command '{name:.60}'. {remedy}", ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)

    def _names(self, ctx: click.Context) -> list[str]:
        return self.list_commands(ctx)


class Option(click.Option):
    """An option whose default is shown with its unit, as `[default: 150 ms]`."""

    def __init__(self, *args: Any, unit: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.unit = unit

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help."""
        record = super().get_help_record(ctx)
        if record is None or not self.unit:
            return record
        shown = f"{self.default:g}" if isinstance(self.default, float) else str(self.default)
        name, text = record
        return name, text.replace(
            f"[default: {self.default}", f"[default: {shown} {self.unit}".rstrip()
        )


def _is_given(value: Any) -> bool:
    """Return whether a parser found a value; without one it has None, (), or its own mark."""
    return isinstance(value, (str, int, bool)) or (isinstance(value, (tuple, list)) and bool(value))


def _spelling(parameter: click.Parameter, ctx: click.Context) -> str:
    """Return a parameter as a user writes it."""
    metavar = parameter.make_metavar(ctx)
    if isinstance(parameter, click.Argument):
        return metavar
    return f"{parameter.opts[0]} {metavar}"


def _rank(parameter: click.Parameter) -> int:
    """Return the place of an option among `LAST_OPTIONS`; 0 for any other parameter."""
    return next(
        (LAST_OPTIONS.index(name) + 1 for name in parameter.opts if name in LAST_OPTIONS), 0
    )


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the known words closest to one, as `a or b`; empty if none is close."""
    return " or ".join(difflib.get_close_matches(word.lower()[:100], list(known), n=2, cutoff=0.6))


def _write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    if not examples:
        return
    with formatter.section("Examples" if len(examples) > 1 else "Example"):
        for purpose, line in examples:
            formatter.write_text(f"{purpose}:")
            with formatter.indentation():
                for part in wrap_command(line, formatter.width - formatter.current_indent):
                    formatter.write(f"{' ' * formatter.current_indent}{part}\n")


def wrap_command(line: str, width: int) -> list[str]:
    """Return a command line in parts that a shell joins again, broken before options."""
    first, *options = re.split(r" (?=--)", line)
    parts = [first]
    for option in options:
        if len(parts[-1]) + len(option) + 3 <= width:
            parts[-1] += f" {option}"
        else:
            parts[-1] += " \\"
            parts.append(f"    {option}")
    return parts
