"""The help of every command: one vocabulary, examples that parse, 80 columns."""

from __future__ import annotations

import collections
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest

from edgeinspect.cli._command import LAST_OPTIONS, Command, Example, Group
from edgeinspect.cli._exit_codes import EXIT_CODES
from edgeinspect.cli._paths import LINE_FILE
from edgeinspect.cli.main import COMMANDS, SECTIONS, VARIABLES, cli, main
from tests.cli_tree import every_command, examples, leaf_commands, parse
from tests.file_kinds import make_files

EVERY = every_command()
LEAVES = leaf_commands()

SEVERAL_METAVARS = {
    "--report": "of several formats",
    "--out": "what it writes: a file's name, or FOLDER",
    "--threshold": "of a probability, or of each class",
    "--stride": "auto, where a graph shows it",
}
"""Options with one meaning that take another form in some commands."""


def options() -> dict[str, list[tuple[str, click.Option]]]:
    """Return option name to the commands that have it."""
    found = collections.defaultdict(list)
    for path, command in LEAVES.items():
        for each in command.params:
            if isinstance(each, click.Option):
                for name in each.opts:
                    found[name].append((path, each))
    return found


@pytest.mark.parametrize("path", EVERY)
def test_help_fits_80_columns(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command, ctx = EVERY[path]
    assert [line for line in command.get_help(ctx).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("path", [path for path in EVERY if path not in LEAVES and path])
def test_no_summary_is_cut(path: str) -> None:
    command, ctx = EVERY[path]
    cut = [line for line in command.get_help(ctx).splitlines() if line.endswith("...")]
    assert [line for line in cut if not line.startswith("Usage:")] == []


@pytest.mark.parametrize("path", EVERY)
def test_every_help_has_a_sentence_and_examples(path: str) -> None:
    command, _ctx = EVERY[path]
    assert isinstance(command, (Command, Group)), "make it with cls=Command or cls=Group"
    assert command.help
    first = command.help.split("\n\n")[0].strip()
    assert first.endswith("."), first
    assert first[0].isupper(), first
    assert command.examples, "an example says more than the options"
    for example in command.examples:
        assert example.line.startswith(f"edgeinspect {path}".strip()), example
        assert example.purpose[0].isupper(), example
        assert not example.purpose.endswith((".", ":")), example


@pytest.mark.parametrize("path", LEAVES)
def test_every_option_is_explained(path: str) -> None:
    for each in LEAVES[path].params:
        if not isinstance(each, click.Option):
            continue
        assert each.help, each.opts
        assert each.help.endswith("."), each.help
        if not each.is_flag and not isinstance(each.type, click.Choice):
            assert each.metavar, f"{each.opts} shows its type instead of what it is"
        if each.default not in (None, "", False, ()) and not each.multiple:
            shown = each.get_help_record(click.Context(LEAVES[path]))
            if "Sentinel" not in repr(each.default) and each.default != 0.0:
                assert shown is not None
                assert "default" in shown[1], each.opts


@pytest.mark.parametrize(
    ("path", "example"), examples(), ids=lambda each: getattr(each, "line", "")
)
@pytest.mark.usefixtures("in_files")
def test_every_example_is_accepted_by_the_parser(path: str, example: Example) -> None:
    command, _ctx = parse(example.line)
    expected = EVERY[path][0]
    assert command is expected or (isinstance(expected, click.Group) and command is not expected), (
        "the example is of another command"
    )


CHEAP = (
    "archive check", "archive list", "data inspect", "data split", "help", "keys allow",
    "keys list", "keys new", "ledger backup", "ledger events", "ledger export", "ledger query",
    "ledger verify", "models gc", "models list", "models show", "version",
)  # fmt: skip
"""Commands whose examples are executed: they take less than a second, and change only files in
the working directory."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [example.line for path, example in examples() if path in CHEAP], ids=str
)
def test_examples_do_what_they_say(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEINSPECT_STORE", str(tmp_path / "engines"))
    if line.startswith("edgeinspect keys new"):
        shutil.rmtree(tmp_path / "keys")
    if line.startswith("edgeinspect data split"):
        (tmp_path / "split.json").unlink()  # another split is not replaced
    code = main(shlex.split(line)[1:])
    captured = capsys.readouterr()
    assert code == 0 or (code == 65 and "--strict" in line), captured.err
    assert captured.out


def test_an_option_has_one_form_in_all_commands() -> None:
    different = {}
    for name, places in options().items():
        forms = {
            (each.is_flag, each.metavar)
            for _path, each in places
            if not isinstance(each.type, click.Choice)
        }
        if len(forms) > 1 and name not in SEVERAL_METAVARS:
            different[name] = [(path, each.metavar) for path, each in places]
    assert different == {}


def test_file_is_always_the_line() -> None:
    for path, command in LEAVES.items():
        for each in command.params:
            words = each.make_metavar(click.Context(command))
            if re.fullmatch(r"\[?FILE\]?", words):
                assert each.type is LINE_FILE, (path, each)
                assert isinstance(each, click.Option) or command.params.index(each) == 0, path
            elif isinstance(each, click.Argument):
                assert each.type is not LINE_FILE, (path, words)


@pytest.mark.parametrize("path", LEAVES)
def test_what_many_commands_have_stands_last(path: str) -> None:
    command, ctx = EVERY[path]
    shown = [name for each in command.get_params(ctx) for name in each.opts if name[:2] == "--"]
    last = [name for name in LAST_OPTIONS if name in shown]
    assert [name for name in shown if name != "--version"][-len(last) :] == last


def test_the_help_of_the_program_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_target, words) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(words)}$", out, re.M), name
    for code in EXIT_CODES:
        assert re.search(rf"^  {code} ", out, re.M), code
    for name in (*VARIABLES, *SECTIONS):
        assert name in out


def test_summaries_and_help_agree_on_the_first_word() -> None:
    """The list of commands and the command's own help say the same."""
    for name, (_target, words) in COMMANDS.items():
        text = EVERY[name][0].help
        assert text
        assert words.endswith(".")


@pytest.mark.parametrize("path", ["", "run", "ledger", "ledger verify"])
def test_help_is_a_command_too(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", *path.split()]) == 0
    asked = capsys.readouterr().out
    assert main([*path.split(), "--help"]) == 0
    assert capsys.readouterr().out == asked


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("chek", "Did you mean check?"),
        ("ledger vrify", "Did you mean verify?"),
        ("ledger zzz", "There are: verify, query, export, events"),
        ("help ledgr", "Did you mean ledger?"),
        ("help run now", "edgeinspect run has no commands"),
        ("check examples/strip.yaml --no-opne", "--no-open"),
        ("evaluate x --data strip:1:4 --config line.yaml", "--config is now --line FILE"),
        ("train gate --data x --out y --split s.json", "--split is now --split-file"),
        ("challenge a.png --address tcp://x:1", "--address is now the first argument, LINE"),
    ],
)
def test_a_slip_is_answered_with_the_right_word(
    words: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 64
    err = capsys.readouterr().err
    assert remedy in " ".join(err.split())
    assert err.startswith("Usage: edgeinspect")


def test_every_renamed_option_is_refused_with_one_that_exists() -> None:
    for path, command in LEAVES.items():
        present = {name for each in command.params for name in each.opts}
        for old, new in command.renamed.items():
            assert old not in present, path
            if new.startswith("--"):
                assert new.split()[0] in present, (path, new)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_help_has_no_control_sequences(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["ledger", "--help"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_root_is_a_group_of_the_project() -> None:
    assert isinstance(cli, Group)
