from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import types
from pathlib import Path

import msgspec
import pytest

from edgeinspect import registry
from edgeinspect.errors import InternalError, UsageError, install_command


class Options(msgspec.Struct):
    pass


def test_the_shipped_plugins_are_found() -> None:
    assert {"ov", "ort"} <= set(registry.plugin_names("backend"))
    assert {"folder", "synthetic"} <= set(registry.plugin_names("camera"))
    assert not any(name.startswith("_") for name in registry.plugin_names("backend"))


def test_a_package_that_does_not_exist_has_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PLUGIN_PACKAGES, "camera", "edgeinspect.nothing")
    assert registry.plugin_names("camera") == ()


@pytest.mark.parametrize("kind", ["camera", "backend"])
def test_every_plugin_exposes_options_and_build(kind: registry.PluginKind) -> None:
    for name in registry.plugin_names(kind):
        module = registry.load_plugin(kind, name)
        assert isinstance(module, registry.PluginModule)
        config = module.Options.__struct_config__
        assert config.frozen, name
        assert config.forbid_unknown_fields, name
        assert "type" not in module.Options.__struct_fields__, name


def test_the_error_for_an_unknown_plugin_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"no backend of type 'tensorflow'.*There are: .*ov"):
        registry.load_plugin("backend", "tensorflow")


@pytest.mark.parametrize("name", ["_contract", "../ov", "ov.py", "", "__init__"])
def test_a_name_that_is_no_plugin_is_not_imported(name: str) -> None:
    with pytest.raises(UsageError):
        registry.load_plugin("backend", name)


def test_a_new_file_is_a_new_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_cameras"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text(
        "import msgspec\n"
        "class Options(msgspec.Struct): pass\n"
        "def build(options, clock): return None\n"
    )
    (package / "heavy.py").write_text("import no_such_library\n")
    (package / "bare.py").write_text("x = 1\n")
    (package / "half.py").write_text("import msgspec\nclass Options(msgspec.Struct): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.PLUGIN_PACKAGES, "camera", "my_cameras")
    assert registry.plugin_names("camera") == ("bare", "good", "half", "heavy")
    assert registry.load_plugin("camera", "good").Options
    assert registry.missing_reason("camera", "good") is None
    assert "no_such_library" in (registry.missing_reason("camera", "heavy") or "")
    with pytest.raises(InternalError, match="`Options`"):
        registry.load_plugin("camera", "bare")
    with pytest.raises(InternalError, match="`build`"):
        registry.load_plugin("camera", "half")


def test_listing_and_checking_imports_no_heavy_library() -> None:
    heavy = ["openvino", "onnxruntime", "torch", "onnx", "tensorrt", "pycuda"]
    code = (
        "import sys\n"
        "from edgeinspect import registry\n"
        "for kind in ('camera', 'backend', 'plclink'):\n"
        "    for name in registry.plugin_names(kind):\n"
        "        registry.missing_reason(kind, name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_missing_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    reason = registry.missing_reason("backend", "ov")
    assert reason == f"openvino is not installed: {install_command('edgeinspect[cpu]')}"


def test_a_folder_without_code_is_not_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not registry.is_installed("tensorrt_folder")
    assert not registry.is_installed("no_parent_at_all.child")
    assert registry.is_installed("msgspec")
    broken = types.ModuleType("broken_module")
    broken.__spec__ = None
    monkeypatch.setitem(sys.modules, "broken_module", broken)
    assert not registry.is_installed("broken_module")


def test_the_extras_are_those_of_the_package() -> None:
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text(encoding="utf-8")
    section = setup.partition("[options.extras_require]")[2].partition("# --- pytest")[0]
    for package, extra in registry.EXTRAS.items():
        assert f"\n{extra} =\n" in section, extra
        assert package.replace("snap7", "python-snap7") in section, package


def test_every_hint_names_the_extra_that_installs_the_package() -> None:
    root = Path(__file__).parents[2] / "edgeinspect"
    hints = re.findall(
        r'(?:MissingExtraError|_import)\("(\w+)", "(\w+)"',
        "".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py")),
    )
    assert len(hints) > 5
    for one, other in hints:  # `_import` has them in the other order
        assert registry.EXTRAS.get(other) == one or registry.EXTRAS.get(one) == other


def test_a_broken_module_of_another_package_is_named_and_stops_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_broken.py").write_text("raise ValueError('of version 1')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = importlib.metadata.EntryPoint("broken", "acme_broken", "edgeinspect.cameras")
    monkeypatch.setattr(registry, "_entry_points", lambda _group: {"broken": (point,)})
    expected = "cannot be imported: acme_broken: ValueError: of version 1"
    assert registry.missing_reason("camera", "broken") == expected
    with pytest.raises(ImportError, match="acme_broken: ValueError"):
        registry.load_plugin("camera", "broken")


def test_every_extra_that_a_text_names_exists() -> None:
    root = Path(__file__).parents[2]
    setup = (root / "setup.cfg").read_text(encoding="utf-8")
    section = setup.partition("[options.extras_require]")[2].partition("# --- pytest")[0]
    extras = set(re.findall(r"^(\w+) =$", section, re.MULTILINE))
    assert {"cpu", "hmi", "plc"} <= extras
    places = [*root.glob("edgeinspect/**/*.py"), *root.glob("docs/**/*.md"), root / "README.md"]
    named = {
        name: path
        for path in places
        for names in re.findall(
            r"edgeinspect\[([\w,]+)\]|\bextras? ['`](\w+)['`]", path.read_text(encoding="utf-8")
        )
        for group in names
        for name in group.split(",")
        if name
    }
    assert {"cpu", "zoo"} <= named.keys()
    assert {name: path for name, path in named.items() if name not in extras} == {}
