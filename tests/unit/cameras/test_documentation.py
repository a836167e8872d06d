"""The example configurations in docs/howto/cameras.md are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgeinspect.config.schema import ActByConfig, PartVerdictsConfig
from edgeinspect.registry import load_plugin

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "cameras.md"


def test_every_example_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    first: dict[str, Any] = yaml.safe_load(blocks[0])["cameras"]["top"]
    seen = []
    for text in blocks:
        found = yaml.safe_load(text)
        if "parts" in found or "act_by" in found:
            msgspec.convert(found.get("parts", {"window_ms": 1}), PartVerdictsConfig)
            msgspec.convert(found.get("act_by", {}), ActByConfig)
            continue
        if "cameras" in found:
            cameras = list(found["cameras"].values())
        elif all(isinstance(each, dict) and "type" in each for each in found.values()):
            cameras = list(found.values())
        else:
            cameras = [first | found]  # additions to the first
        for camera in cameras:
            options = {key: value for key, value in camera.items() if key != "type"}
            msgspec.convert(options, load_plugin("camera", camera["type"]).Options)
            seen.append(camera["type"])
    assert set(seen) == {"aravis", "genicam", "pylon", "v4l2", "rtsp", "folder"}
