"""The documentation matches the code: links, commands, tables, schemas, examples."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import msgspec
import pytest

from edgeinspect import errors
from edgeinspect.cli.main import COMMANDS, cli
from edgeinspect.config.schema import LineConfig
from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.ports import Camera
from edgeinspect.system import log_events
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
CHECKED_PAGES = [path for path in PAGES if path.name != "plc.md"]


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    before = list(sys.path)
    path = ROOT / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


def names(pages: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in pages]


def prose(text: str) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def slugs(text: str) -> set[str]:
    """Return the anchors of a page, as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("·", "")).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("name", names(PAGES))
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in slugs(there.read_text(encoding="utf-8")), f"{name}: {target}"


@pytest.mark.parametrize("name", names(PAGES))
def test_no_path_of_a_developers_machine(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|mnt)/", text)


@pytest.mark.parametrize("name", names(PAGES))
def test_files_named_in_backticks_exist(name: str) -> None:
    text = prose((ROOT / name).read_text(encoding="utf-8"))
    for target in re.findall(r"`((?:edgeinspect|docs|examples|tests|benchmarks)/[\w./-]+)`", text):
        if not target.endswith(("…", "/")):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_files_of_the_architecture_page_exist() -> None:
    """Its paths are relative to the package, and name whole files."""
    text = prose((ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8"))
    paths = re.findall(r"`([\w/]+\.(?:py|js))`", text)
    assert len(paths) > 80
    for target in paths:
        assert any((ROOT / top / target).exists() for top in ("edgeinspect", ".")), target


def commands(text: str) -> list[list[str]]:
    """Return every complete command in code blocks and backticks, without comments."""
    text = re.sub(r"\\\n\s*", "", text)  # a command over several lines
    lines = re.findall(r"^\s*(edgeinspect [a-z].*)$", text, flags=re.MULTILINE)
    lines += re.findall(r"`(edgeinspect [a-z][^`]*)`", text)
    return [shlex.split(re.split(r"\s{3,}\S", line)[0]) for line in lines if "…" not in line]


@pytest.mark.parametrize(
    "name", [*names(CHECKED_PAGES), "examples/strip.yaml", "examples/folder.yaml"]
)
def test_commands_exist_with_their_options(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\n#", "\n")
    for words in commands(text):
        assert words[1] in COMMANDS, f"{name}: {' '.join(words)}"
        command = cli.get_command(click.Context(cli), words[1])
        rest = words[2:]
        if isinstance(command, click.Group):
            if not rest or rest[0].startswith("-"):
                continue
            command = command.get_command(click.Context(command), rest[0])
            rest = rest[1:]
        assert command is not None, f"{name}: {' '.join(words)}"
        known = {option for param in command.params for option in param.opts} | {"--help", "-h"}
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{name}: {' '.join(words)}"


@pytest.mark.parametrize("name", names(PAGES))
def test_what_commands_do_stands_in_one_column(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for block in re.findall(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        explained = re.findall(r"^((?:edgeinspect|make|/opt/\S+) .*\S {2,})\S", block, re.MULTILINE)
        assert len({len(command) for command in explained}) <= 1, block


def test_the_readme_has_every_command_and_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, (_target, words) in COMMANDS.items():
        assert f"| `edgeinspect {name}` | {words} |" in text
    for name, value in vars(errors).items():
        if name.startswith("EXIT_"):
            assert f"\n| {value} | " in text


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"^make (\w+)", text, flags=re.MULTILINE):
            assert f"\n{target}:" in makefile


@pytest.mark.slow
def test_generated_parts_are_up_to_date(reference: ModuleType) -> None:
    needs.locked_versions("msgspec", "click")  # their own wording is among it
    stale = [str(path.relative_to(ROOT)) for path in reference.stale()]
    assert not stale, f"run `python docs/make_reference.py`: {stale}"


def test_the_event_catalogue_is_complete() -> None:
    text = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    for name, value in vars(log_events).items():
        if name.isupper():
            assert f"`{value}`" in text


def test_the_configuration_reference_is_complete() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")

    def walk(cls: type[msgspec.Struct], path: str) -> None:
        for field in msgspec.structs.fields(cls):
            assert f"| `{path}{field.encode_name}` |" in text
            if isinstance(field.default, msgspec.Struct):
                walk(type(field.default), f"{path}{field.encode_name}.")

    walk(LineConfig, "")
    assert not re.search(r"^\| `.*\| +\|$", text, flags=re.MULTILINE), "a key without a description"


@pytest.mark.parametrize("name", ["archive", "configuration", "gateway", "hmi"])
def test_every_key_has_a_description(name: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert text.count("\n| `") > 20
    assert not re.search(r"^\| `.*\| +\|$", text, flags=re.MULTILINE), "a key without a description"


def test_every_message_has_a_schema_and_a_valid_example(reference: ModuleType) -> None:
    for cls in reference.MESSAGES:
        path = ROOT / "docs" / "reference" / "schema" / reference.schema_name(cls)
        whole = json.loads(path.read_text(encoding="utf-8"))
        assert whole["title"] == reference.tag(cls)
        example = reference.EXAMPLES[cls.__name__]
        assert msgspec.json.decode(msgspec.json.encode(example), type=cls) == example


def documented_camera() -> str:
    """Return the source of the camera in docs/howto/extend.md."""
    text = (ROOT / "docs" / "howto" / "extend.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- example: camera -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    return block[1]


@pytest.mark.slow
def test_the_documented_camera_passes_ruff_and_mypy(tmp_path: Path) -> None:
    for package in ("ruff", "mypy"):
        needs.library(package)
    file = tmp_path / "noise.py"
    file.write_text(documented_camera(), encoding="utf-8")
    name = ("--stdin-filename", "edgeinspect/cameras/noise.py", "-")
    for arguments in (
        ("ruff", "check", *name),
        ("ruff", "format", "--check", *name),
        ("mypy", "--strict", str(file)),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            input=documented_camera(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_documented_camera_delivers_frames() -> None:
    module = ModuleType("noise")
    exec(compile(documented_camera(), "noise.py", "exec", dont_inherit=True), module.__dict__)
    clock = ManualClock()
    camera = module.build(module.Options(rate_hz=100), clock)
    assert isinstance(camera, Camera)
    camera.open()
    first = camera.grab(NS_PER_S)
    second = camera.grab(NS_PER_S)
    assert first is not None
    assert second is not None
    assert second.captured_at_ns - first.captured_at_ns == NS_PER_S // 100
    assert first.pixels is not None
    assert first.pixels.shape == (256, 1600, 1)
    camera.release(first)
    camera.close()


def test_functions_named_in_the_architecture_page_exist() -> None:
    """Search `Class.method` in backticks in the sources, so that renamed ones are found."""
    text = prose((ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8"))
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "edgeinspect").rglob("*.py")
    )
    for owner, member in re.findall(r"`([A-Z]\w+)\.(\w+)", text):
        assert re.search(rf"^class {owner}\b", sources, flags=re.MULTILINE), owner
        assert re.search(rf"(def {member}\b|\b{member}\b *[:=])", sources), f"{owner}.{member}"


def test_the_readme_image_is_small() -> None:
    assert (ROOT / "docs" / "img" / "reject.png").stat().st_size < 300_000
