"""What a survey means for training: each finding with its remedy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from edgeinspect.learning.datasets.duplicates import Twins
from edgeinspect.learning.datasets.load import BROKEN_RATIO
from edgeinspect.learning.datasets.records import SPLITS
from edgeinspect.learning.datasets.scan import Seen, Survey

Level = Literal["error", "warning", "note"]

FEW = 10
"""Fewer test pictures of a class give figures that say nothing."""
_INVERTED_RATIO = 0.5
_CLASSES_SHOWN = 8
_REMEDIES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know."""

    level: Level
    """`error`: it cannot be trained as it is. `warning`: figures would mislead."""
    what: str
    remedy: str = ""


def findings(survey: Survey) -> list[Finding]:
    """Everything worth saying about a set, the gravest first."""
    found = [Finding("note", note) for note in survey.data.notes]
    for look in (_left_out, _broken, _one_sided, _masks, _duplicates, _splits, _pictures):
        found += look(survey)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _named(seen: list[Seen], shown: int = 3) -> str:
    names = ", ".join(one.record.name for one in seen[:shown])
    return f"{names}, …" if len(seen) > shown else names


def _command(survey: Survey) -> str:
    return f"edgeinspect data split {survey.data.root}"


def _left_out(survey: Survey) -> list[Finding]:
    found = []
    for level, on_purpose in (("warning", False), ("note", True)):
        some = [one for one in survey.data.left_out if one.on_purpose is on_purpose]
        if some:
            names = ", ".join(one.name for one in some[:3]) + (", …" if some[3:] else "")
            remedy = "" if on_purpose else "Each is listed with its reason"
            found.append(Finding(level, f"{len(some)} pictures are left out: {names}", remedy))  # type: ignore[arg-type]
    return found


def _broken(survey: Survey) -> list[Finding]:
    broken = survey.broken
    if not broken:
        return []
    lost = [seen for seen in broken if seen.size is None]
    wrong = [seen for seen in broken if seen.size is not None]
    level: Level = "error" if len(broken) > BROKEN_RATIO * len(survey.seen) else "warning"
    out = []
    if lost:
        out.append(
            Finding(
                level,
                f"{len(lost)} pictures cannot be read: {_named(lost)}",
                _remedies(lost, "Copy them again; training leaves them out"),
            )
        )
    if wrong:
        out.append(
            Finding(
                level,
                f"{len(wrong)} masks do not fit their pictures: {_named(wrong)}",
                _remedies(wrong, "Look at the problems listed; training leaves these pictures out"),
            )
        )
    return out


def _remedies(broken: list[Seen], otherwise: str) -> str:
    """What helps against the problems, that of the most pictures first."""
    count = Counter(seen.remedy for seen in broken if seen.remedy)
    said = "; ".join(
        f"{remedy} ({number} of them)" if len(count) > 1 else remedy
        for remedy, number in count.most_common(_REMEDIES_SHOWN)
    )
    return f"{said}. Training leaves them out" if said else otherwise


def _one_sided(survey: Survey) -> list[Finding]:
    usable = [seen for seen in survey.seen if not seen.problem]
    bad = sum(seen.record.defective or seen.defect_px > 0 for seen in usable)
    if not usable:
        return []
    if not bad:
        return [
            Finding(
                "error",
                "no picture is defective",
                "Nothing can be learnt; name the good classes with --good",
            )
        ]
    if bad == len(usable):
        names = survey.data.classes
        listed = ", ".join(names[:_CLASSES_SHOWN]) + (", …" if names[_CLASSES_SHOWN:] else "")
        otherwise = "train a segmenter, or add" if survey.data.has_masks else "add"
        return [
            Finding(
                "warning",
                "every picture is defective: a gate cannot be trained on it",
                f"Name those of its classes ({listed}) that are good: --good NAME; "
                f"else {otherwise} good pictures",
            )
        ]
    return []


def _masks(survey: Survey) -> list[Finding]:
    if not survey.data.has_masks:
        return [Finding("note", "it has no masks: it serves a gate, not a segmenter")]
    out = []
    usable = [seen for seen in survey.seen if seen.class_px]
    empty = [seen for seen in usable if seen.record.defective and not seen.defect_px]
    if empty:
        out.append(
            Finding(
                "warning",
                f"{len(empty)} defective pictures have no defect pixel: {_named(empty)}",
                "Draw their masks; until then they teach a gate only",
            )
        )
    against = [
        seen
        for seen in usable
        if seen.defect_px and (not seen.record.defective or _other_class(seen))
    ]
    if against:
        out.append(
            Finding(
                "warning",
                f"{len(against)} masks contradict their label: {_named(against)}",
                "Correct the label or the mask",
            )
        )
    full = [seen for seen in usable if seen.defect_px > _INVERTED_RATIO * sum(seen.class_px)]
    if usable and len(full) > len(usable) / 2:
        out.append(
            Finding(
                "warning",
                f"in {len(full)} pictures most pixels are defects",
                "Are the masks inverted? Defects must be nonzero, background 0",
            )
        )
    for class_id, name in enumerate(survey.data.classes, 1):
        if usable and not sum(seen.class_px[class_id] for seen in usable):
            out.append(
                Finding(
                    "warning",
                    f"class '{name}' has no pixel anywhere",
                    "Add pictures that show it; a name taken out of the set's list would "
                    "shift the ids",
                )
            )
    return out


def _other_class(seen: Seen) -> bool:
    """True if the mask holds none of the classes that the labels name."""
    return bool(seen.record.class_ids) and not any(
        seen.class_px[class_id] for class_id in seen.record.class_ids
    )


def _duplicates(survey: Survey) -> list[Finding]:
    out = []

    def best(pairs: list[Twins]) -> str:
        pair = max(pairs, key=lambda pair: pair.correlation)
        return f"{survey.seen[pair.first].record.name} and {survey.seen[pair.second].record.name}"

    leaks = [pair for pair in survey.leaks() if pair.exact]
    near = [pair for pair in survey.leaks() if not pair.exact]
    remedy = f"Split anew with: {_command(survey)} --anew --together --out split.json"
    if leaks:
        out.append(
            Finding(
                "warning",
                f"{len(leaks)} exact duplicates stand in two splits, as {best(leaks)}: "
                "figures on test would be too good",
                remedy,
            )
        )
    if near:
        out.append(
            Finding(
                "warning",
                f"{len(near)} near duplicates (turned, mirrored, other exposure) stand in "
                f"two splits, as {best(near)}",
                remedy,
            )
        )
    if contrary := survey.contradictions():
        out.append(
            Finding(
                "warning",
                f"{len(contrary)} exact duplicates are good and defective at once, as "
                f"{best(contrary)}",
                "Correct one of the two labels",
            )
        )
    inside = len(survey.twins) - len(leaks) - len(near)
    if inside:
        out.append(Finding("note", f"{inside} pairs of duplicates stand within one split"))
    return out


def _splits(survey: Survey) -> list[Finding]:
    data = survey.data
    if not any(record.split for record in data.records):
        return [
            Finding(
                "note",
                "it has no split of its own",
                f"Make one with: {_command(survey)} --out split.json",
            )
        ]
    out = []
    if missing := [name for name in SPLITS if not data.of(name)]:
        words = " and no ".join(missing)
        out.append(Finding("note", f"it has no {words} split; training makes it"))
    train, test = data.of("train"), data.of("test")
    bad = any(record.defective for record in data.records)
    if train and bad and not any(record.defective for record in train):
        out.append(
            Finding(
                "note",
                "train holds good pictures only (made for anomaly detection); "
                "training splits the set anew",
            )
        )
    found = {
        name: {class_id for record in records for class_id in record.class_ids}
        for name, records in (("train", train), ("val", data.of("val")), ("test", test))
    }
    strange = sorted((found["val"] | found["test"]) - found["train"])
    if found["train"] and strange:  # one spelled otherwise in another split's folder, as a rule
        names = ", ".join(repr(data.classes[class_id - 1]) for class_id in strange)
        out.append(
            Finding(
                "warning",
                f"train shows nothing of {names}, which val or test have",
                "Spell the classes alike in all splits, or split anew with: "
                f"{_command(survey)} --anew --out split.json",
            )
        )
    shared = {record.group for record in train} & {record.group for record in test}
    if shared:
        out.append(
            Finding(
                "warning",
                f"{len(shared)} groups stand in train and in test",
                f"Split anew with: {_command(survey)} --anew --out split.json",
            )
        )
    if test:
        count = Counter(class_id for record in test for class_id in record.class_ids)
        few = [n for i, n in enumerate(data.classes, 1) if count[i] < FEW]
        if few:
            out.append(
                Finding(
                    "note",
                    f"test has fewer than {FEW} pictures of: {', '.join(few)}",
                    "Give an interval with every figure of these",
                )
            )
    return out


def _pictures(survey: Survey) -> list[Finding]:
    out = []
    if survey.data.bits > 8:
        out.append(
            Finding(
                "note",
                f"pictures are {survey.data.bits} bits deep; they are shifted "
                "to 8, and the line's camera must do the same",
                f"A folder camera has `bits: {survey.data.bits}` for it",
            )
        )
    if len(survey.sizes) > 1:
        (height, width), count = survey.sizes[0]
        out.append(
            Finding(
                "note",
                f"pictures have {len(survey.sizes)} sizes ({count} are {height} "
                f"x {width} px); they are letterboxed into one",
            )
        )
    colored = sum(seen.colored for seen in survey.seen)
    if 0 < colored < sum(seen.size is not None for seen in survey.seen):
        out.append(Finding("note", f"{colored} of the pictures are coloured, the others grey"))
    return out
