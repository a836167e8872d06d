"""What names of folders and classes mean, and what a name without a clear meaning leads to."""

from __future__ import annotations

import json
import random
import string
from typing import Any

import pytest

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.class_names import (
    find_counterpart,
    is_defect_class,
    is_good_class,
    is_unclear_class,
    says_only_defective,
)
from edgeinspect.learning.datasets.class_words import LANGUAGES, WRITTEN_WITHOUT_BLANKS
from edgeinspect.learning.datasets.open import open_dataset
from edgeinspect.learning.datasets.plain_folder import read_plain_folder
from edgeinspect.learning.datasets.vocabulary import is_mask_folder, split_words

GOOD_WORDS = sorted(
    {word for language in LANGUAGES for word in language.good.split()}
    | WRITTEN_WITHOUT_BLANKS["good"]
)

DEFECTIVE = """
n_ok|N-OK|n.ok|neOK|pas bon|pas_ok|não ok|nao_ok|ikke ok|ej ok|inte ok|nie ok|niet ok|不OK|不正常
非良品|未合格|クラックOK|didnt_pass|isnt_good|isn't good|not crack-free|not free of cracks
not defect free|good_but_scratched|nichtOK|NonOK|notgood|niet in orde|pas conforme|비정상|не годен
not without defects ok|niO|n.i.O.|NG|不良品|坏|有缺陷|缺陷|mauvais|un défaut
n_defects|No.1 crack|no_1_scratch|NO 2 NG
"""
UNCLEAR = """
ok_nicht|ok_no|passed_not|ok değil|not-so-good|false_ok|pseudo_ok|almost_good|good_rework
bon a jeter|false negative|not tested ok|kein ok|geen ok|良品なし|SEM_crack|sin crack|good_masks
good_line|ok_x
"""
GOOD = """
good|ok|OK|OK_parts|ok_front|good_images|i.O.|No defect|defect_free|良品|正常|合格|正常图像|OK画像
good_cam1|ok_2024-01-03|good_lot12|good_s0001|ok_A7|good_line2|OK_cam_A|batch_B_good|OK_train
good parts|okparts|OKparts
Gutbilder|Bestanden|intakt|sauber|mängelfrei|rissfrei|Freigabe|Gut_Teile|fehlerfreie Teile
bonnes|pièces_bonnes|correct|sain|sans défaut|aucun défaut|pas de défaut|sans rayure
buenas|aceptado|correcto|aprobado|sin defecto|sin_fallos|senza difetti|sem defeito
goedgekeurd|zonder fout|foutloos|in orde|bez wad|brak wad|prawidłowe|zgodne|dobré|bra|utan fel
uden fejl|sağlam|goods|golden|gd|无缺陷|好|好品|欠陥なし|불량 없음|без дефектов|годен|ＯＫ
MT_Free|NODefect_images|burr-free|no burr|no_defect_found|no_cracks_or_dents|un-damaged|not bad
without a crack|pas d'anomalie
"""


def names(table: str) -> list[str]:
    return [name for line in table.split("\n") for name in line.split("|") if name]


@pytest.mark.parametrize("name", names(DEFECTIVE))
def test_names_of_defects(name: str) -> None:
    assert (is_good_class(name), is_defect_class(name)) == (False, True)
    assert not is_unclear_class(name)


@pytest.mark.parametrize("name", names(UNCLEAR))
def test_names_without_a_clear_meaning(name: str) -> None:
    assert (is_good_class(name), is_defect_class(name)) == (False, False)
    assert is_unclear_class(name)


@pytest.mark.parametrize("name", names(GOOD))
def test_names_of_good_classes(name: str) -> None:
    assert (is_good_class(name), is_defect_class(name)) == (True, False)


@pytest.mark.parametrize("word", GOOD_WORDS)
def test_a_good_word_beside_an_unknown_word_is_not_good(word: str) -> None:
    assert is_good_class(word)
    rng = random.Random(word)
    for _ in range(40):
        letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))
        unknown = f"q{letters}q"
        for sign in "_", " ", "-", ".", "/":
            assert not is_good_class(f"{word}{sign}{unknown}")
            assert not is_good_class(f"{unknown}{sign}{word}")
        assert not is_good_class(f"{unknown}_{word}_12")
        assert not is_good_class(f"{word}{unknown}")


@pytest.mark.parametrize("word", GOOD_WORDS)
def test_a_good_word_beside_a_negation_is_not_good(word: str) -> None:
    nots = {each for one in LANGUAGES for each in (*one.nots.split(), *one.withouts.split())}
    nots |= {"n", "ne", *WRITTEN_WITHOUT_BLANKS["not"], *WRITTEN_WITHOUT_BLANKS["without"]}
    for each in nots:
        for name in (f"{each}_{word}", f"{word}_{each}", f"{word} {each}", f"{each}-{word} 3"):
            assert not is_good_class(name), name


@pytest.mark.parametrize(
    ("name", "only"),
    [
        ("niO", True),
        ("mauvais", True),
        ("NG", True),
        ("不良品", True),
        ("wadliwe", True),
        ("Defekte Teile", True),
        ("pas bon", True),
        ("crack", False),
        ("NG_cam1", False),
        ("def_front", False),
    ],
)
def test_names_that_say_only_defective(name: str, only: bool) -> None:
    assert says_only_defective(name) == only


@pytest.mark.parametrize(
    ("good", "bad", "kinds"),
    [
        ("iO", "niO", ("Kratzer", "Delle")),
        ("bon", "mauvais", ("rayure", "bosse")),
        ("良品", "不良品", ("划痕", "裂纹")),
        ("goed", "afgekeurd", ("kras", "deuk")),
    ],
)
def test_kinds_below_a_defective_folder_of_any_language(
    make: Any, good: str, bad: str, kinds: tuple[str, str]
) -> None:
    make.class_folder(good, count=3)
    make.class_folder(*kinds, above=f"{bad}/", count=3)
    assert open_dataset(make.root).classes == tuple(sorted(f"{bad}/{kind}" for kind in kinds))


@pytest.mark.parametrize("name", ["almost_good", "good_rework", "ok_nicht"])
def test_an_unclear_folder_is_refused_until_the_good_ones_are_named(make: Any, name: str) -> None:
    make.class_folder("ok", "ng", name, count=3)
    for layout in (None, "class_folder"):
        with pytest.raises(DataError, match=f"has a class '{name}'") as caught:
            open_dataset(make.root, layout)
        assert f"--good-class '{name}'" in caught.value.remedy
    assert open_dataset(make.root, good_classes=["ok"]).classes == tuple(sorted([name, "ng"]))
    assert open_dataset(make.root, good_classes=["ok", name]).classes == ("ng",)


@pytest.mark.parametrize("name", ["pas bon", "bon a jeter"])
def test_a_coco_category_with_a_word_for_good_makes_no_image_good(make: Any, name: str) -> None:
    make.write("a.png")
    make.write("b.png")
    box = [10, 10, 20, 10]
    polygon = [[10, 10, 30, 10, 30, 20, 10, 20]]
    content = {
        "images": [
            {"id": at, "file_name": f"{file}.png", "height": 40, "width": 64}
            for at, file in enumerate("ab")
        ],
        "categories": [{"id": 1, "name": name}],
        "annotations": [
            {
                "id": 1,
                "image_id": 0,
                "category_id": 1,
                "bbox": box,
                "area": 200,
                "iscrowd": 0,
                "segmentation": polygon,
            }
        ],
    }
    make.text("annotations.json", json.dumps(content))
    if is_unclear_class(name):
        with pytest.raises(DataError, match="has a class 'bon a jeter'"):
            open_dataset(make.root)
        assert not any(
            one.is_defective for one in open_dataset(make.root, good_classes=[name]).samples
        )
        return
    data = open_dataset(make.root)
    assert [one.is_defective for one in data.samples] == [True, False]
    assert (data.samples[0].read_mask(40, 64) == 1).sum() > 100


def test_the_only_folder_without_a_word_for_a_defect_is_refused(make: Any) -> None:
    make.class_folder("housing", "NG", "crack", count=3)
    with pytest.raises(DataError, match="no folder is known as good") as caught:
        open_dataset(make.root)
    assert "--good-class housing" in caught.value.remedy
    assert open_dataset(make.root, good_classes=["housing"]).classes == ("NG", "crack")
    assert "housing" in open_dataset(make.root, "class_folder").classes


def test_g_beside_ng_is_refused_with_its_remedy(make: Any) -> None:
    make.class_folder("G", "NG", count=3)
    with pytest.raises(DataError, match="no folder is known as good"):
        open_dataset(make.root)
    assert open_dataset(make.root, good_classes=["G"]).classes == ("NG",)


def test_kinds_alone_say_that_no_folder_is_known_as_good(make: Any) -> None:
    make.class_folder("crazing", "inclusion", "patches", count=2)
    (note,) = [each for each in open_dataset(make.root).notes if "good classes" in each]
    assert "no folder is known as good" in note
    assert "--good-class" in note


@pytest.mark.parametrize("name", ["不良", "划痕", "good_rework", "ausschuss"])
def test_a_folder_in_one_of_good_images_must_say_good(make: Any, name: str) -> None:
    make.write("a.png")
    make.write(f"{name}/b.png")
    with pytest.raises(DataError, match="does not say that its own are"):
        read_plain_folder(make.root)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("图像", "掩码"),
        ("图片", "遮罩"),
        ("画像", "マスク"),
        ("images", "masques"),
        ("images", "máscaras"),
        ("immagini", "maschere"),
        ("Bilder", "Masken"),
        ("obrazy", "maski"),
    ],
)
def test_images_and_masks_in_folders_of_other_languages(make: Any, images: str, masks: str) -> None:
    for index in range(4):
        make.write(f"{images}/p{index}.png")
        make.write(f"{masks}/p{index}.png", make.mask(*[1] * (index % 2), value=255))
    data = open_dataset(make.root)
    assert data.layout == "mask_folder"
    assert [one.is_defective for one in data.samples] == [False, True] * 2


def test_words_in_other_letters_count() -> None:
    assert split_words("正常images") == ["正常images"]
    assert split_words("máscaras_2") == ["mascaras"]
    assert not is_mask_folder("不良品 mask")


@pytest.mark.parametrize("name", ["nonok", "NONOK", "Nonok", "NONOK_1", "img_NONOK"])
def test_a_negation_joined_with_good_is_no_double_one(name: str) -> None:
    assert is_defect_class(name)
    assert not is_good_class(name)


@pytest.mark.parametrize(
    "name",
    [
        *("noko", "nong", "NoNG", "no_hole", "kein_Loch", "sans_trou", "no_chip", "hole_free"),
        *("!ok", "\u2260ok", "ok?", "ok\u2717"),
    ],
)
def test_a_feature_that_is_missing_or_a_sign_is_unclear(name: str) -> None:
    assert is_unclear_class(name)
    assert not is_good_class(name)


@pytest.mark.parametrize(
    "names",
    [
        ("Class1", "Class1_def", "Class2", "Class2_def"),
        ("qualified", "unqualified"),
        ("compliant", "non_compliant"),
        ("crack_absent", "crack_present"),
    ],
)
def test_a_name_beside_its_opposite_may_be_good(names: tuple[str, ...], make: Any) -> None:
    for name in names:
        make.write(f"{name}/a.png")
        make.write(f"{name}/b.png")
    with pytest.raises(DataError, match=f"--good-class {names[0]}"):
        open_dataset(make.root)
    data = open_dataset(make.root, good_classes=(names[0],))
    assert sum(not sample.is_defective for sample in data.samples) == 2


@pytest.mark.parametrize(
    "names",
    [
        ("red_iron", "slag_inclusion", "surface_scratch", "iron_sheet_ash"),
        ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches"),
        ("crack", "crack_long"),
    ],
)
def test_kinds_have_no_opposites(names: tuple[str, ...]) -> None:
    assert find_counterpart(names) is None
