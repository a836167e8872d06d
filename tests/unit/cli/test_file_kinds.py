"""Each command names a file of the wrong kind, for every parameter that takes a file."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgeinspect import __version__
from edgeinspect.cli._file_kinds import REMEDIES, FileKind, identify
from edgeinspect.cli._input_path import InputPath, Reference
from edgeinspect.cli._output_path import OutputPath
from edgeinspect.cli._paths import ARCHIVE, StoredModel
from edgeinspect.cli.main import main
from edgeinspect.errors import ConfigFileError, OutputError
from tests.cli_tree import command_line, leaf_commands
from tests.file_kinds import NAMES
from tests.ledger_fixture import LedgerFixture

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("in_files")]


def inputs() -> list[tuple[str, click.Parameter, InputPath]]:
    """Return every parameter of a command that takes an existing file or folder."""
    found = []
    for path, command in leaf_commands().items():
        for each in command.params:
            kind = each.type.path if isinstance(each.type, Reference) else each.type
            if isinstance(kind, InputPath):
                found.append((path, each, kind))
    return found


def name_of(value: object) -> str:
    if isinstance(value, click.Parameter):
        return value.opts[0]
    return value.name if isinstance(value, FileKind) else str(value) * isinstance(value, str)


WRONG = [
    (path, each, kind)
    for path, each, input_path in inputs()
    for kind in FileKind
    if kind not in input_path.kinds
]


@pytest.mark.parametrize("kind", FileKind)
def test_each_kind_is_recognised(kind: FileKind) -> None:
    assert identify(Path(NAMES[kind])).kind is kind


def test_folders_that_others_remove_during_the_search_do_not_hide_the_one_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, removed = Path.glob, []

    def glob(folder: Path, pattern: str) -> Iterator[Path]:
        if len(removed) < 3:
            removed.append(pattern)
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "other/1")
        return search(folder, pattern)

    monkeypatch.setattr(Path, "glob", glob)
    assert identify(tmp_path).kind is FileKind.FOLDER
    (tmp_path / "gate" / "1").mkdir(parents=True)
    (tmp_path / "gate" / "1" / "manifest.yaml").touch()
    removed.clear()
    assert identify(tmp_path).kind is FileKind.STORE


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"schema": 1, "line": "t", "cameras": {"top": {"type": "folder"}}}', FileKind.LINE),
        ("{schema: 1, line: t, cameras: {top: {type: folder}}, engines: {}}", FileKind.LINE),
        ('{"schema":1,"gateway":"g","link":{"type":"modbus"}}', FileKind.GATEWAY),
        ('{"line": "t", "notes": {"cameras": 3, "bind": "x"}}', FileKind.JSON),
        ('[{"cameras": 1}]', FileKind.JSON),
        ('{"text": "cameras: {"}', FileKind.JSON),
    ],
)
def test_a_table_in_braces_is_a_configuration_too(
    text: str, kind: FileKind, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    assert identify(path).kind is kind


@pytest.mark.parametrize(
    ("content", "name", "shown"),
    [
        (b"\0" * 300, "a.yaml", "a binary file (nothing but zeros)"),
        (b"\0" * 300, "a.json", "a binary file (nothing but zeros)"),
        (b"line: t\n" + b"\0" * 300, "a.yaml", "a binary file"),
        ("schema: 1\nline: t\n".encode("utf-16-le"), "a.yaml", "text in UTF-16"),
        ("schema: 1\nline: t\n".encode("utf-16-be"), "a.yaml", "text in UTF-16"),
        ("schema: 1\nline: t\n".encode("utf-16"), "a.yaml", "text in UTF-16"),
        ("schema: 1\n".encode("utf-32-le"), "a.yaml", "a binary file"),
    ],
)
def test_zeros_are_not_text(content: bytes, name: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(identify(tmp_path / name)) == shown


VERSIONED = [
    (f"{path} {name}", Path(name))
    for path, name in (
        ("check", "line.yaml"),
        ("run", "line.yaml"),
        ("ledger verify", "line.yaml"),
        ("watch", "line.yaml"),
        ("record --out new.mcap", "line.yaml"),
        ("hmi", "hmi.yaml"),
        ("gateway", "gateway.yaml"),
        ("archive run", "archive.yaml"),
    )
]


@pytest.mark.parametrize(("command", "source"), VERSIONED)
def test_a_file_of_a_later_version_is_one_fault_with_its_remedy(
    command: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = f"schema: 2\nfuture: 1\n{source.read_text(encoding='utf-8').replace('schema: 1', '')}"
    monkeypatch.chdir(tmp_path)
    source.write_text(text, encoding="utf-8")
    assert main(command.split()) == 78
    assert capfd.readouterr().err == (
        f"edgeinspect: error: {source}: 1 fault\n  line 1: schema: this file is of version 2, and "
        f"edgeinspect {__version__} reads version 1: upgrade edgeinspect, or restore the file's "
        "earlier version\n"
    )


@pytest.mark.parametrize(("path", "parameter", "kind"), WRONG, ids=name_of)
def test_a_file_of_another_kind_is_named(
    path: str, parameter: click.Parameter, kind: FileKind, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = NAMES[kind]
    code = main(command_line(path, parameter, f"./{wrong}"))
    captured = capsys.readouterr()
    expected = parameter.type.path if isinstance(parameter.type, Reference) else parameter.type
    assert isinstance(expected, InputPath)
    assert code == (78 if expected.error is ConfigFileError else 65), captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith(f"edgeinspect: error: {wrong}: is ")
    assert f", not {expected.what}" in captured.err
    if kind is not FileKind.NOT_A_FILE:
        assert kind.value in captured.err
    if kind in REMEDIES and not expected.always_hint:
        assert REMEDIES[kind].partition("{")[0] in captured.err
    else:
        assert expected.hint, "says what to give instead"
        assert expected.hint in captured.err


def test_a_command_in_a_remedy_can_be_pasted(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a line's.yaml"
    shutil.copy(files / "line.yaml", path)
    assert main(["data", "inspect", str(path)]) == 65
    remedy = capsys.readouterr().err.partition("Run it with: ")[2]
    assert shlex.split(remedy) == ["edgeinspect", "run", str(path)]


@pytest.mark.parametrize(("path", "parameter", "input_path"), inputs(), ids=name_of)
def test_a_missing_file_is_named_with_its_neighbour(
    path: str,
    parameter: click.Parameter,
    input_path: InputPath,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if input_path.may_be_missing:
        return  # it is made
    if path == "challenge" and parameter.name == "image":
        return  # its name in the line's folder
    code = main(command_line(path, parameter, "./lime.yaml"))
    err = capsys.readouterr().err
    assert code == (78 if "YAML" in input_path.hint.split(",")[0] else 65), err
    assert err == (
        "edgeinspect: error: lime.yaml: there is no such file or folder. Did you mean line.yaml?\n"
    )


def test_a_link_to_nothing_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "set"
    link.symlink_to(tmp_path / "gone")
    assert main(["data", "inspect", str(link)]) == 65
    err = capsys.readouterr().err
    assert f"{link}: is a link to something that does not exist" in err
    assert "Did you mean" not in err


@pytest.mark.parametrize("wrong", ["net.onnx", "engines/strip-gate", "line.yaml", "pipe.yaml"])
def test_a_path_is_no_name_of_the_store(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path, command in leaf_commands().items():
        for each in command.params:
            if isinstance(each.type, StoredModel):
                assert main(command_line(path, each, f"./{wrong}")) == 64, path
                assert "not a model of the store" in capsys.readouterr().err


def test_every_parameter_with_a_path_has_a_kind() -> None:
    """A plain click.Path would accept anything."""
    for path, command in leaf_commands().items():
        for each in command.params:
            if isinstance(each.type, click.Path):
                assert isinstance(each.type, (InputPath, OutputPath)), (path, each.opts)


def outputs() -> list[tuple[str, click.Parameter]]:
    return [
        (path, each)
        for path, command in leaf_commands().items()
        for each in command.params
        if isinstance(each.type, OutputPath)
    ]


@pytest.mark.parametrize(("path", "parameter"), outputs(), ids=name_of)
@pytest.mark.parametrize("case", ["below a file", "of the other sort", "no folder", "read-only"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    path: str,
    parameter: click.Parameter,
    case: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = parameter.type
    assert isinstance(kind, OutputPath)
    if case == "below a file":
        value = "./line.yaml/out"
    elif case == "of the other sort":
        if kind.is_folder is None:
            return  # takes both
        value = "./line.yaml" if kind.is_folder else "./pictures"
    elif case == "no folder":
        if kind.makes_folders or kind.is_folder is not False:
            return  # the folder is made
        value = "./nowhere/out.txt"
    else:
        monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may write anywhere
        value = "./new"
    code = main(command_line(path, parameter, value))
    err = capsys.readouterr().err
    assert code == 73, err
    assert err.count("\n") == 1
    assert "Check the path, and the rights of this user" in err
    assert not Path("new").exists()


def writers_beside_data() -> list[tuple[str, click.Parameter, click.Parameter]]:
    """Return each folder of images that a command reads with each option that it writes to."""
    return [
        (path, source, output)
        for path, source, kind in inputs()
        if kind.holds_data
        for output in leaf_commands()[path].params
        if isinstance(output, click.Option)
        and (
            isinstance(output.type, OutputPath)
            or (isinstance(output.type, InputPath) and output.type.may_be_missing)
        )
    ]


def test_the_commands_that_read_images_are_known_as_such() -> None:
    found = {path for path, _source, _output in writers_beside_data()}
    assert found >= {
        "archive export",
        "bench",
        "calibrate",
        "compare",
        "data convert",
        "data inspect",
        "data select",
        "data split",
        "evaluate",
        "explain",
        "rescore",
        "train anomaly",
        "train gate",
        "train segmenter",
    }


@pytest.mark.parametrize(("path", "source", "output"), writers_beside_data(), ids=name_of)
def test_nothing_is_written_into_the_images_that_are_read(
    path: str,
    source: click.Parameter,
    output: click.Parameter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = "archive" if source.type is ARCHIVE else "pictures"
    words = command_line(path, source, f"./{folder}")
    for written in (f"./{folder}/new", f"./engines/../{folder}/./new"):
        code = main([*words, output.opts[0], written])
        err = capsys.readouterr().err
        assert code == 73, err
        assert "which is read as " in err
        assert f"Give {output.opts[0]} a path outside of it" in err
        assert not Path(folder, "new").exists()


def test_a_link_to_the_images_hides_nothing(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(files / "pictures")
    target = str(files / "pictures" / "split.json")
    assert main(["data", "split", str(link), "--out", target]) == 73
    assert "would be read as data" in capsys.readouterr().err


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_folder_that_takes_no_file_though_root_may_write_is_refused(
    *, is_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc does; a probe leaves nothing behind."""
    before = sorted(os.listdir("."))
    kind = OutputPath(is_folder=is_folder)
    kind.convert("./new", None, None)
    assert sorted(os.listdir(".")) == before
    with pytest.raises(OutputError, match="cannot be written"):
        kind.convert("/proc/new", None, None)
    if is_folder:
        with pytest.raises(OutputError, match="cannot be written"):
            kind.convert("/proc/x/y", None, None)


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, 73), (errno.EROFS, 73), (errno.ENOSPC, 75)]
)
@pytest.mark.parametrize(("path", "parameter"), outputs(), ids=name_of)
def test_an_output_that_fails_during_the_work_has_the_same_code(
    path: str,
    parameter: click.Parameter,
    number: int,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(parameter.type, OutputPath)
    below = "new" if parameter.type.is_folder is False else "new/a/b.txt"

    def fail(*_values: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number), str(Path(below).absolute()))

    monkeypatch.setattr(leaf_commands()[path], "callback", fail)
    assert main(command_line(path, parameter, "./new")) == code
    assert f"new: cannot be written: {os.strerror(number)}" in capsys.readouterr().err.replace(
        "/a/b.txt", ""
    )


@pytest.mark.unprivileged
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(
    tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "line.yaml"
    shutil.copy(files / "line.yaml", path)
    path.chmod(0)
    assert main(["check", str(path)]) == 78
    assert (
        "Permission denied. Check the path, and the rights of this user" in capsys.readouterr().err
    )


def test_a_disk_that_fails_is_retried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("edgeinspect.cli._input_path.identify", fail)
    assert main(["check", "line.yaml"]) == 75
    assert "This may be temporary: try again" in capsys.readouterr().err


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerFixture]:
    made = LedgerFixture(tmp_path)
    made.add_verdicts(2)
    assert made.writer.write_backlog()
    made.writer.close()
    yield made
    made.dispose()


def test_a_command_does_not_replace_what_it_reads(
    ledger: LedgerFixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ledger.path.read_bytes()
    link = tmp_path / "other-name.csv"
    link.hardlink_to(ledger.path)
    for target in (ledger.path, link):
        assert main(["ledger", "export", str(ledger.path), "--csv", str(target)]) == 64
        assert "would be replaced by --csv" in capsys.readouterr().err
    assert ledger.path.read_bytes() == before


def test_nor_a_model_that_it_reads_nor_what_another_option_writes(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tmp_path / "net.onnx"
    shutil.copy(files / NAMES[FileKind.ONNX], network)
    before = network.read_bytes()
    words = ["evaluate", str(network), "--data", str(files / NAMES[FileKind.FOLDER])]
    assert main([*words, "--json-file", str(network)]) == 64
    assert "is read as MODEL and would be replaced by --json-file" in capsys.readouterr().err
    assert network.read_bytes() == before
    both = str(tmp_path / "result.svg")
    assert main(["bench", "--plot", both, "--json-file", both]) == 64
    assert "is given to --plot and to --json-file" in capsys.readouterr().err


def test_nor_a_database_that_the_line_file_only_names(
    ledger: LedgerFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.add_verdicts(2)
    assert ledger.writer.write_backlog()
    line = ledger.folder / "line.yaml"
    line.write_text(
        f"line: {ledger.path.name.split('.')[0]}\nledger: {{folder: {ledger.folder}}}\n"
    )
    before = ledger.path.read_bytes()
    assert main(["ledger", "export", str(line), "--csv", str(ledger.path)]) == 73
    assert "is a database" in capsys.readouterr().err
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("words", [["export", "LEDGER", "--csv", "-"], ["backup", "LEDGER", "-"]])
def test_the_standard_output_is_written_only_where_the_help_says_so(
    ledger: LedgerFixture,
    tmp_path: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [str(ledger.path) if word == "LEDGER" else word for word in words]
    assert main(["ledger", *command]) == 64
    assert "not written to the standard output" in capsys.readouterr().err
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("words", [["export", "LEDGER", "--csv"], ["backup", "LEDGER"]])
def test_an_output_is_no_pipe_and_no_folder_that_is_not_there(
    ledger: LedgerFixture, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["ledger", *(str(ledger.path) if word == "LEDGER" else word for word in words)]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main([*command, str(pipe)]) == 73
    assert "a device or a pipe" in capsys.readouterr().err
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    for _dangling in (True, False):
        assert main([*command, str(link)]) == 73
        assert "is a link" in capsys.readouterr().err
        assert link.is_symlink()
        target.write_bytes(b"")
    assert target.read_bytes() == b""
    is_made = words[0] == "backup"
    assert main([*command, f"{tmp_path}/new/"]) == (0 if is_made else 73)
    assert is_made or "there is no such folder" in capsys.readouterr().err
    assert (tmp_path / "new").is_dir() is is_made


@pytest.mark.parametrize("kind", [FileKind.LINE, FileKind.FOLDER, FileKind.RECORDING])
def test_what_is_no_backup_is_refused_with_what_writes_one(
    kind: FileKind, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ledger", "restore", "line.yaml", NAMES[kind]]) == 65
    err = capsys.readouterr().err
    assert ", not a backup of a ledger. Give the file that `edgeinspect ledger backup` wrote" in err


@pytest.mark.parametrize("command", ["keys list pictures", "keys allow pictures gateway.key"])
def test_a_folder_without_keys_is_not_an_empty_list(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 65
    assert capsys.readouterr() == (
        "",
        "edgeinspect: error: pictures: is a folder, not a folder of a line's keys. "
        "Make one with: edgeinspect keys new FOLDER\n",
    )
