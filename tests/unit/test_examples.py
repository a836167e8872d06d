from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import pytest

from edgeinspect.client import VerdictReceived, VerdictsLost
from edgeinspect.config.cross_checks import check_models
from edgeinspect.config.loader import load_config
from edgeinspect.imaging.synthetic_strip import CLASS_NAMES
from edgeinspect.registry import plugin_names
from edgeinspect.services.gateway import config as gateway
from edgeinspect.storage.model_store import ModelStore

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module_object = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module_object)
    return module_object


@pytest.mark.parametrize("name", ["strip.yaml", "folder.yaml"])
def test_an_example_is_valid_and_fits_the_shipped_models(name: str) -> None:
    loaded = load_config(EXAMPLES / name)
    store = ModelStore(ROOT / "engines")
    specs = {name: store.resolve(choice.options.model) for name, choice in loaded.engines.items()}
    check_models(loaded.config, specs["gate"], specs["segmenter"])
    assert tuple(loaded.config.decide.classes) == CLASS_NAMES


GATEWAYS = (EXAMPLES / "gateway.yaml", *sorted((EXAMPLES / "gateways").glob("*.yaml")))


@pytest.mark.parametrize("path", GATEWAYS, ids=lambda path: path.stem)
def test_a_gateway_s_example_is_a_whole_file(path: Path) -> None:
    loaded = gateway.load_config(path)
    assert loaded.config.feed.line == "example"
    assert Path(loaded.config.cursor).parent == Path("/var/lib/edgeinspect")


def test_each_protocol_and_role_has_a_whole_file() -> None:
    options = [(gateway.load_config(path).link) for path in GATEWAYS]
    found = {(link.type, getattr(link.options, "role", "")) for link in options}
    roles = {"modbus": {"server", "client"}}
    wanted = {(name, role) for name in plugin_names("plclink") for role in roles.get(name, {""})}
    assert found == wanted


def test_the_template_of_a_line_pc_has_a_ledger() -> None:
    """Backup, `ledger verify` and the PLC's proof need one; the page copies this file."""
    template = EXAMPLES / "service" / "example.yaml"
    assert load_config(template).config.ledger is not None
    page = (ROOT / "docs/howto/install.md").read_text(encoding="utf-8")
    assert "/etc/edgeinspect/example.yaml > /etc/edgeinspect/press.yaml" in page


def test_the_commented_example_has_every_section() -> None:
    from edgeinspect.config.schema import LineConfig

    text = (EXAMPLES / "strip.yaml").read_text(encoding="utf-8")
    for name in LineConfig.__struct_fields__:
        if name != "store":
            assert f"\n{name}:" in text or f"\n# {name}:" in text, name


def test_the_folder_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    loaded = load_config(EXAMPLES / "folder.yaml", [f"cameras.top.path={tmp_path}"])
    assert loaded.cameras["top"].options.path == str(tmp_path)
    assert loaded.config.capture.wrong_shape == "letterbox"


def test_the_example_images_are_small_and_of_several_sizes() -> None:
    pictures = sorted((EXAMPLES / "pictures").glob("*.png"))
    assert len(pictures) >= 6
    assert sum(path.stat().st_size for path in pictures) < 1_500_000
    shapes = {cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape for path in pictures}
    assert len(shapes) > 1
    assert (256, 1600) in shapes


def test_the_subscriber_stores_its_position(tmp_path: Path) -> None:
    subscriber = module(EXAMPLES / "subscriber.py")
    path = tmp_path / "cursor"
    subscriber.store(path, 7)
    subscriber.store(path, 8)
    assert path.read_text(encoding="utf-8") == "8"
    assert subscriber.VerdictReceived is VerdictReceived
    assert subscriber.VerdictsLost is VerdictsLost
    assert [entry.name for entry in tmp_path.iterdir()] == ["cursor"]
