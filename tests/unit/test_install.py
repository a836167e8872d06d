"""`make install` and `make deb` as on a fresh PC: what they need is declared, failures said."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests import needs

ROOT = Path(__file__).parents[2]


def run_layout(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "install" / "layout.py"), "--unlocked", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.fixture
def interpreter() -> None:
    """One that a service can run: a layout from a home folder's own is refused before all else."""
    try:
        module("layout").find_interpreter()
    except SystemExit as refused:
        pytest.skip(str(refused))


def hide(folder: Path, module: str) -> str:
    """A path before all others on which a module cannot be imported."""
    (folder / f"{module}.py").write_text(f"raise ImportError('{module} is hidden')\n")
    return str(folder)


HIDDEN_WHEEL = """
import importlib.machinery, importlib.util, os, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "wheel":
            return None
        own = importlib.util.find_spec("setuptools").submodule_search_locations[0]
        return importlib.machinery.PathFinder.find_spec(name, [os.path.join(own, "_vendor")])

sys.meta_path.insert(0, Finder)
"""
"""As `sitecustomize`: the `wheel` project is not installed, setuptools' own copy is."""


@pytest.mark.slow
def test_the_wheel_needs_only_what_the_line_s_environment_declares(tmp_path: Path) -> None:
    """The `wheel` project is in many environments by chance, and in none by our asking."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN_WHEEL)
    code = f"""if True:
        import sys; sys.path.insert(0, {str(ROOT / "install")!r})
        import layout, pathlib
        print(layout.build_wheel(pathlib.Path({str(tmp_path)!r})))
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = zipfile.ZipFile(done.stdout.splitlines()[-1]).namelist()
    assert "edgeinspect/services/daemon/service.py" in names
    assert any(name.endswith(".onnx") for name in names), "the shipped engines"


@pytest.mark.usefixtures("interpreter")
def test_what_cannot_be_built_leaves_the_old_installation_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "root" / "opt" / "edgeinspect" / "bin" / "edgeinspect"
    old.parent.mkdir(parents=True)
    old.write_text("the old one")
    done = run_layout("--destdir", str(tmp_path / "root"), PYTHONPATH=hide(tmp_path, "setuptools"))
    assert done.returncode == 1
    assert "install: failed: " in done.stderr
    assert "pip wheel" in done.stderr
    assert "Traceback" not in done.stderr.splitlines()[-2]
    assert old.read_text() == "the old one"


@pytest.mark.usefixtures("interpreter")
def test_an_extra_that_is_not_here_is_said_before_anything_is_touched(tmp_path: Path) -> None:
    old = tmp_path / "opt" / "edgeinspect" / "kept"
    old.parent.mkdir(parents=True)
    old.write_text("kept")
    done = run_layout("--destdir", str(tmp_path), "--extra", "pylon")
    assert done.returncode != 0
    assert "pypylon is required and not in this environment" in done.stderr
    assert old.read_text() == "kept"


@pytest.mark.usefixtures("interpreter")
def test_a_place_where_nothing_can_be_laid_out_is_said(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    done = run_layout("--destdir", str(taken))
    assert done.returncode == 1
    assert "install: " in done.stderr
    assert "the installation is incomplete" in done.stderr
    assert taken.read_text() == "a file"


def module(name: str) -> ModuleType:
    """One of the installer's own, which are no package."""
    sys.path.insert(0, str(ROOT / "install"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "install"))


def line_distributions() -> list[importlib.metadata.Distribution]:
    """Those of a line PC, or a skip where this environment is another one."""
    try:
        names = sorted(module("requirements").required())
    except SystemExit as absent:
        pytest.skip(f"an environment without all of a line PC's extras: {absent}")
    return [importlib.metadata.distribution(name) for name in names]


# -- additions ---------------------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    """Write a wheel with one module of that name."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    content = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for target, text in (*content.items(), (f"{info}/RECORD", record)):
            file.writestr(target, text)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment as in the package, with one library: `shipped`, version 1."""
    target = tmp_path / "opt"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    (site,) = target.glob("lib/python*/site-packages")
    with zipfile.ZipFile(make_wheel(tmp_path, "shipped", "1")) as file:
        file.extractall(site)
    module("layout").install_additions(target, str(target))
    return target


def pip(environment: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call pip in an environment, as its own would."""
    needs.library("pip")
    variables = {name: value for name, value in os.environ.items() if name[:4] != "PIP_"}
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(environment), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=variables,
    )


def imported(environment: Path, name: str) -> str:
    """Return file and version of a module, as the environment imports it."""
    code = f"import {name}; print({name}.__file__, {name}.version)"
    command = [str(environment / "bin/python"), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_an_addition_has_a_folder_of_its_own_and_changes_nothing_shipped(
    environment: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "acme", "1", "shipped>=1")
    done = pip(environment, "install", "--no-index", str(wheel))
    assert done.returncode == 0, done.stderr
    assert "/opt/local/lib/" in imported(environment, "acme")
    assert not list(environment.glob("lib/python*/site-packages/acme*"))
    newer = make_wheel(tmp_path, "acme", "2")
    assert pip(environment, "install", "--no-index", str(newer)).returncode == 0
    assert imported(environment, "acme").endswith(" 2\n")
    assert pip(environment, "uninstall", "--yes", "acme").returncode == 0
    assert imported(environment, "acme") == ""


def test_an_addition_that_needs_another_version_of_a_library_is_refused(
    environment: Path, tmp_path: Path
) -> None:
    make_wheel(tmp_path, "shipped", "2")
    wheel = make_wheel(tmp_path, "acme", "1", "shipped>=2")
    done = pip(environment, "install", "--no-index", "--find-links", str(tmp_path), str(wheel))
    assert done.returncode != 0
    assert "shipped==1" in done.stdout + done.stderr
    assert imported(environment, "shipped").endswith(" 1\n")
    assert imported(environment, "acme") == ""


def test_an_installation_keeps_what_was_added_to_the_one_before(
    environment: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "acme", "1")
    assert pip(environment, "install", "--no-index", str(wheel)).returncode == 0
    module("layout").remove_environment(environment)
    assert [path.name for path in environment.iterdir()] == ["local"]
    assert list(environment.glob("local/lib/python*/site-packages/acme.py"))
    module("layout").remove_environment(tmp_path / "never")


def test_the_page_names_every_extra_and_which_the_package_has() -> None:
    requirements = module("requirements")
    extras = set(requirements.configuration()["options.extras_require"])
    page = (ROOT / "docs/howto/install.md").read_text(encoding="utf-8")
    section = page.partition("## Extras and plugins")[2].partition("\n## ")[0]
    (shipped,) = re.findall(r"^(.*) are in the package\.$", section, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", shipped)) == set(requirements.EXTRAS)
    rows = re.findall(r"^\| (`.*?) \| .*? \| (.*) \|$", section, flags=re.MULTILINE)
    added = {name: adds for names, adds in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(added) == extras - {*requirements.EXTRAS, "package", "test", "dev", "docs"}
    for name, adds in added.items():
        (first, *_) = requirements.extra_requirements([name])
        assert re.split(r"\W", first)[0] in adds, name


# -- bill of materials and licences ------------------------------------------------------


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    needs.locked_versions()  # what is shipped
    needs.library("jsonschema")
    validation = needs.library("cyclonedx.validation.json")
    schema = importlib.import_module("cyclonedx.schema")
    text = module("bill").bill(line_distributions())
    faults = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text)
    assert faults is None, faults


def test_the_bill_of_materials_names_each_library_and_what_is_inside() -> None:
    needs.locked_versions()  # what is shipped
    distributions = line_distributions()
    bill = module("bill")
    told = json.loads(bill.bill(distributions))
    names = [bill.normalised(each.metadata["Name"]) for each in distributions]
    assert [bill.normalised(each["name"]) for each in told["components"]] == sorted(names)
    assert all(each["licenses"][0]["expression"] for each in told["components"])
    inside = {part["name"] for each in told["components"] for part in each.get("components", ())}
    assert {"FFmpeg", "OpenSSL", "libzmq"} <= inside
    tree = {each["ref"]: each["dependsOn"] for each in told["dependencies"]}
    (zmq,) = (ref for ref in tree if ref.startswith("pkg:pypi/pyzmq@"))
    assert any(zmq in wanted for wanted in tree.values())
    assert bill.bill(distributions) == bill.bill(reversed(distributions))


def test_each_library_of_a_line_pc_has_a_known_licence_and_its_text() -> None:
    needs.locked_versions()  # what is shipped
    licences = module("licences")
    for each in line_distributions():
        assert licences.licence(each)
        assert all(text.strip() for _, text in licences.texts(each))
        assert list(licences.texts(each)), each.metadata["Name"]


def test_licences_that_give_a_right_to_source_are_named_with_the_source() -> None:
    needs.locked_versions()  # what is shipped
    listed = module("licences").copyleft(line_distributions())
    for part in ("asyncua", "FFmpeg", "libzmq", "certifi", "paho-mqtt", "quad-precision"):
        assert part in listed
    assert all("http" in line for line in listed.splitlines())


def make_distribution(folder: Path, metadata: str, *files: str) -> importlib.metadata.Distribution:
    info = folder / "thing-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: 1\n{metadata}")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return importlib.metadata.Distribution.at(info)


@pytest.mark.parametrize(
    ("metadata", "files", "message"),
    [
        ("License: ask us\n", (), "thing 1 has no licence that is known here ('ask us')"),
        ("License: MIT\n", (), "thing 1 has no file with its licence"),
        ("License: MIT\n", ("thing.libs/libsecret-1a2b.so.3",), "libsecret-1a2b.so.3 in thing 1"),
    ],
)
def test_what_has_no_known_licence_is_refused(
    tmp_path: Path, metadata: str, files: tuple[str, ...], message: str
) -> None:
    licences = module("licences")
    distribution = make_distribution(tmp_path, metadata, *files)
    with pytest.raises(SystemExit) as refused:
        print(licences.table([distribution]), list(licences.texts(distribution)))
    assert message in str(refused.value)
    assert "install/licences" in str(refused.value)


# -- what is packed ----------------------------------------------------------------------


def test_an_environment_that_differs_from_its_lock_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout, lock = module("layout"), module("lock")
    line_distributions()
    locked = lock.locked("line")
    monkeypatch.setattr(lock, "locked", lambda name: locked | {"numpy": "0.1", "gone": "2"})
    monkeypatch.setattr(lock, "changed_files", lambda names: ["h11: h11/_util.py was changed"])
    with pytest.raises(SystemExit) as refused:
        layout.refuse_differences()
    for part in ("numpy is ", "locked is 0.1", "gone 2 is missing", "h11/_util.py was changed"):
        assert part in str(refused.value)
    assert "make clean line" in str(refused.value)


def test_a_changed_file_of_a_library_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = module("lock")
    make_distribution(tmp_path, "", "thing.py")
    (tmp_path / "thing.py").write_text("x = 1\n")
    value = lock.encoded(tmp_path / "thing.py", "sha256")
    (tmp_path / "thing-1.dist-info" / "RECORD").write_text(f"thing.py,sha256={value},6\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(lock.changed_files(["thing"])) == []
    (tmp_path / "thing.py").write_text("x = 2\n")
    assert list(lock.changed_files(["thing"])) == ["thing: thing.py was changed"]
    (tmp_path / "thing.py").unlink()
    assert list(lock.changed_files(["thing"])) == ["thing: thing.py is missing"]


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little")


@pytest.mark.parametrize(
    ("content", "fits"), [(elf(183), True), (elf(62), False), (b"MZ\x90", False), (b"x", True)]
)
def test_a_package_holds_no_file_of_another_processor(
    tmp_path: Path, content: bytes, fits: bool
) -> None:
    deb = module("deb")
    (tmp_path / "thing.so").write_bytes(content)
    if fits:
        deb.check_machine(tmp_path, "arm64")
        return
    with pytest.raises(SystemExit, match=r"thing\.so is not compiled for arm64"):
        deb.check_machine(tmp_path, "arm64")


def test_a_package_for_another_pc_takes_nothing_from_this_one(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "install" / "deb.py"), "--out", str(tmp_path)]
    command += ["--target-arch", "arm64", "--extra", "trt"]
    needs.program("dpkg-deb")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--extra is for a package of this PC's own Python" in done.stderr
    assert list(tmp_path.glob("*.deb")) == []


@pytest.mark.parametrize(
    ("python", "wanted"), [("3.10", "manylinux_2_35_aarch64"), ("3.12", "manylinux_2_39_aarch64")]
)
def test_wheels_of_a_target_are_those_that_its_system_runs(python: str, wanted: str) -> None:
    target = module("wheels").Target("arm64", python)
    assert target.platforms[0] == wanted
    assert "manylinux_2_17_aarch64" in target.platforms
    assert not any("x86_64" in tag for tag in target.platforms)
    assert target.interpreter == f"/usr/bin/python{python}"
    pins = [
        pin for pin in module("wheels").line_pins() if module("lock").applies(pin, target.markers)
    ]
    assert len({pin.name for pin in pins}) == len(pins) > 40


def test_scripts_and_records_name_the_prefix_alone(tmp_path: Path) -> None:
    """What is packed does not depend on the folder that it was made in."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").write_text(f"#!{tmp_path}/bin/python3.11\nprint(1)\n")
    (tmp_path / "pyvenv.cfg").write_text(f"command = python -m venv {tmp_path}\n")
    info = tmp_path / "lib" / "python3.11" / "site-packages" / "thing-1.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("../../../bin/tool,sha256=abc,9\nthing.py,sha256=def,1\n")
    module("layout").move_scripts(tmp_path, "/opt/edgeinspect")
    assert (tmp_path / "bin" / "tool").read_text() == "#!/opt/edgeinspect/bin/python\nprint(1)\n"
    assert (tmp_path / "pyvenv.cfg").read_text() == "command = python -m venv /opt/edgeinspect\n"
    assert (info / "RECORD").read_text() == "../../../bin/tool,,\nthing.py,sha256=def,1\n"


def test_models_are_whole_after_an_installation_that_was_interrupted(tmp_path: Path) -> None:
    script = (ROOT / "install/debian/postinst").read_text(encoding="utf-8")
    function = re.search(r"^seed_models\(\) \{\n.*?^\}\n", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    store = tmp_path / "store"
    shipped = tmp_path / "share/edgeinspect/engines/strip-gate/1"
    shipped.mkdir(parents=True)
    (shipped / "model.onnx").write_text("whole")
    left = store / ".strip-gate.new/1"
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("ha")
    text = function[0].replace("/var/lib/edgeinspect/engines", str(store))
    program = f"set -e; chown() {{ :; }}\n{text}seed_models"
    subprocess.run(["sh", "-c", program], env=os.environ | {"PREFIX": str(tmp_path)}, check=True)
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files == [store / "strip-gate/1/model.onnx"]
    assert files[0].read_text() == "whole"
