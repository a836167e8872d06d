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


@pytest.mark.parametrize(
    "place",
    [
        "@eaDir/1.png/SYNOPHOTO_THUMB_SM.jpg",
        "thumbnails/1.png",
        "Thumbs/1.png",
        ".thumbnails/1.png",
        "#recycle/9.png",
        "$RECYCLE.BIN/9.png",
        "@Recycle/9.png",
        "System Volume Information/9.png",
        "__MACOSX/1.png",
        "lost+found/9.png",
    ],
)
def test_folders_that_systems_make_are_ignored(folder: Path, place: str) -> None:
    """A thumbnail of a defect would count as good, and each class twice."""
    for above in ("", "good/", "crack/"):
        path = folder / above / place
        path.parent.mkdir(parents=True)
        path.write_bytes((folder / "crack" / "1.png").read_bytes())
    data = open_dataset(folder)
    assert (data.layout, data.classes, data.skipped) == ("class_folder", ("crack",), ())
    assert {sample.path.parent.name for sample in data.samples} == {"good", "crack"}
    assert len(data) == 4


def test_thumbnails_beside_masks_are_no_good_images(make: Any) -> None:
    root = make.mask_folder()
    for name in ("p0.jpg", "p1.jpg"):
        make.write(f"images/@eaDir/{name}/SYNOPHOTO_THUMB_XL.jpg")
        make.write(f"masks/@eaDir/{name}/SYNOPHOTO_THUMB_XL.jpg")
    data = open_dataset(root)
    assert (len(data), sum(sample.is_defective for sample in data.samples)) == (4, 2)
