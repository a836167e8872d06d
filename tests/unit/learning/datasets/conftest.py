"""Builds a small data set of every layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeinspect.imaging.run_length import encode_runs, format_runs

HEIGHT_PX, WIDTH_PX = 40, 64


class DatasetBuilder:
    """Writes distinct images and their masks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rng = np.random.default_rng(7)

    def pixels(self, height_px: int = HEIGHT_PX, width_px: int = WIDTH_PX) -> np.ndarray:
        coarse = self._rng.integers(40, 216, (8, 8), np.uint8)
        big = cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
        return np.asarray(big, np.uint8)

    def mask(self, *classes: int, value: int | None = None) -> np.ndarray:
        """One block per class, side by side."""
        out = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
        for place, class_id in enumerate(classes):
            out[8:20, 4 + 12 * place : 12 + 12 * place] = class_id if value is None else value
        return out

    def write(self, name: str, pixels: np.ndarray | None = None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        done, data = cv2.imencode(path.suffix.lower(), self.pixels() if pixels is None else pixels)
        assert done
        path.write_bytes(data.tobytes())
        return path

    def text(self, name: str, *lines: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    # -- whole sets -----------------------------------------------------------------------

    def severstal(self, joined: bool = False) -> Path:
        """a: class 1; b: classes 1 and 3; c: a row, but empty; d: no row."""
        runs = {i: format_runs(encode_runs(self.mask(1, 2, 3) == i)) for i in (1, 2, 3)}
        for name in "abcd":
            self.write(f"train_images/{name}.jpg")
        of = {"a": (1,), "b": (1, 3), "c": ()}
        if joined:
            rows = [
                f"{n}.jpg_{i},{runs[i] if i in ids else ''}"
                for n, ids in of.items()
                for i in (1, 2, 3)
            ]
            self.text("train.csv", "ImageId_ClassId,EncodedPixels", *rows)
        else:
            rows = [f"{n}.jpg,{i},{runs[i]}" for n, ids in of.items() for i in ids]
            self.text("train.csv", "ImageId,ClassId,EncodedPixels", *rows, "c.jpg,1,")
        return self.root

    def class_folder(self, *names: str, count: int = 6, above: str = "") -> Path:
        for name in names or ("ok_front", "def_front"):
            for index in range(count):
                self.write(f"{above}{name}/{name}_{index}.jpeg")
        return self.root

    def mvtec(self) -> Path:
        for index in range(6):
            self.write(f"train/good/{index:03}.png")
        for index in range(3):
            self.write(f"test/good/{index:03}.png")
            for kind in ("crack", "hole"):
                self.write(f"test/{kind}/{index:03}.png")
                self.write(f"ground_truth/{kind}/{index:03}_mask.png", self.mask(1, value=255))
        return self.root

    def mask_folder(self, value: int = 255, count: int = 4) -> Path:
        for index in range(count):
            self.write(f"images/p{index}.jpg")
            self.write(f"masks/p{index}.png", self.mask(*([1] if index % 2 else []), value=value))
        return self.root

    def indexed(self) -> Path:
        rows = []
        for index, (name, class_id, split) in enumerate(
            [("free", 0, "train"), ("pit", 1, "train"), ("scar", 2, "val"), ("pit", 1, "test")] * 2
        ):
            self.write(f"images/t{index}.jpg")
            if class_id:
                self.write(f"masks/t{index}.png", self.mask(class_id))
            rows.append(f"t{index}.jpg,{name},{class_id},g{index // 4}{split},{split}")
        self.text("index.csv", "image,class_name,class_id,group,split", *rows)
        return self.root


@pytest.fixture
def make(tmp_path: Path) -> DatasetBuilder:
    return DatasetBuilder(tmp_path / "set")
