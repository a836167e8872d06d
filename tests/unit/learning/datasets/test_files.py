"""Finding the images of a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets import files
from edgeinspect.learning.datasets.files import contains_images, files_in, images_below, subfolders
from edgeinspect.learning.datasets.open import open_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for name in ("good/1", "good/2", "crack/1", "crack/2"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), rng.integers(0, 256, (20, 30), np.uint8))
    return tmp_path


def test_links_to_themselves_are_ignored(folder: Path) -> None:
    (folder / "good" / "loop.png").symlink_to("loop.png")
    (folder / "crack" / "loops").symlink_to("loops")
    (folder / "crack" / "up").symlink_to("..")
    (folder / "good" / "nowhere.png").symlink_to("nothing.png")
    os.mkfifo(folder / "crack" / "pipe.png")
    assert contains_images(folder)
    assert [path.name for path in subfolders(folder)] == ["crack", "good"]
    assert [path.name for path in files_in(folder / "good")] == ["1.png", "2.png"]
    assert "loop.png" in {path.name for path in images_below(folder)}, "reading it says why"
    names = {sample.path.name for sample in open_dataset(folder).samples}
    assert {"loop.png", "nowhere.png", "pipe.png"} <= names


def test_a_folder_that_cannot_be_listed_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a class would be missing silently."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(os.fsdecode(path)).name == "crack":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    for ask in (contains_images, images_below, open_dataset):
        with pytest.raises(DataError, match="cannot be listed: Permission denied") as caught:
            ask(folder)
        assert caught.value.where == str(folder / "crack")
        assert caught.value.remedy
