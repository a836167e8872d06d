"""Chooses the images that teach a model most: uncertain, unlike, and those models disagree on.

The criteria take turns, so that a selection holds some of each. Unlike images are chosen by
k-centre greedy: always the image that is farthest from everything chosen or labelled.
Sources: Settles 2009 (uncertainty, query by committee); Sener and Savarese 2018 (k-centre)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError, UsageError
from edgeinspect.learning.datasets.duplicates import (
    ImageFingerprint,
    are_duplicates,
    fingerprint_image,
    measure_reference,
)
from edgeinspect.learning.evaluate import OfflineInspector
from edgeinspect.learning.select.candidates import CandidateImage, CandidateSet, to_frame
from edgeinspect.learning.select.descriptors import choose_descriptor, scale_descriptors
from edgeinspect.learning.select.reasons import ImageMeasurement, ask_model

UNCERTAIN, UNLIKE, DISAGREE = "uncertain", "unlike", "disagree"
CRITERIA = (DISAGREE, UNCERTAIN, UNLIKE)
MIN_UNCERTAINTY = 0.05
"""Below, an image is a clear case for every model: three logits from the threshold."""
MIN_DISAGREEMENT = 0.1
_SAMPLED = 64
"""Images that tell how alike unrelated images are."""


@dataclass(frozen=True, slots=True)
class SelectedImage:
    """An image that is worth labelling, and why."""

    image: CandidateImage
    criterion: str
    """`uncertain`, `unlike` or `disagree`."""
    reason: str
    value: float
    """Of the criterion: 0 to 1, a distance in typical ones, 0 to 2."""
    opinions: tuple[str, ...]
    """What each model says."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected images, the first ones first."""

    selected: tuple[SelectedImage, ...]
    considered: int
    duplicates: int
    """Images that were passed over because a near duplicate is selected."""
    unreadable: dict[str, str]
    """Name to reason."""
    described_by: str
    """What the distance between images is measured on."""


def select_images(
    candidates: CandidateSet,
    inspectors: Sequence[OfflineInspector],
    count: int,
    criteria: Sequence[str] = (),
    labelled: CandidateSet | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Selection:
    """Select images.

    Args:
        candidates: The images.
        inspectors: One model each; `disagree` needs two.
        count: At most this many images.
        criteria: Of `CRITERIA`; all that the models allow by default.
        labelled: Images that are labelled already: unlike ones are far from them too.
        progress: Called with the number of images done.

    Raises:
        UsageError: `disagree` with one model.
        DataError: No image can be read.
        EngineFault: An inference failed.
    """
    criteria = criteria or tuple(
        each for each in CRITERIA if each != DISAGREE or len(inspectors) > 1
    )
    if DISAGREE in criteria and len(inspectors) < 2:
        raise UsageError("one model cannot disagree", remedy="Give --model twice")
    index, describe, described_by = choose_descriptor([one.spec for one in inspectors])
    images: list[CandidateImage] = []
    measured: list[ImageMeasurement] = []
    unreadable: dict[str, str] = {}
    for done, image in enumerate(candidates.images, 1):
        try:
            pixels = candidates.read(image)
        except DataError as error:
            unreadable[image.name] = error.what
            continue
        frames = [to_frame(pixels, one.spec) for one in inspectors]
        opinions = (ask_model(one, f) for one, f in zip(inspectors, frames, strict=True))
        measured.append(ImageMeasurement(tuple(opinions), describe(frames[index])))
        images.append(image)
        progress(done)
    if not measured:
        raise DataError(
            f"none of its {len(candidates.images)} images can be read: "
            f"{next(iter(unreadable.items()))}",
            where=candidates.where,
        )
    known = []
    for image in labelled.images if labelled is not None else ():
        try:
            frame = to_frame(labelled.read(image), inspectors[index].spec)  # type: ignore[union-attr]
        except DataError:
            continue
        known.append(describe(frame))
    picker = _Picker(candidates, images, measured, known)
    selected = tuple(picker.pick(count, criteria))
    return Selection(selected, len(candidates.images), picker.duplicates, unreadable, described_by)


class _Picker:
    """Picks images by turns, and keeps what has been picked."""

    def __init__(
        self,
        candidates: CandidateSet,
        images: Sequence[CandidateImage],
        measured: Sequence[ImageMeasurement],
        labelled: Sequence[NDArray[np.float32]],
    ) -> None:
        self.duplicates = 0
        self._candidates = candidates
        self._images = images
        self._measured = measured
        self._free = np.ones(len(images), np.bool_)
        self._prints: list[ImageFingerprint] = []
        space = scale_descriptors(np.stack([*(one.descriptor for one in measured), *labelled]))
        self._points = space[: len(images)]
        centres = space[len(images) :]
        if not len(centres):  # what most images look like needs no label
            centres = np.median(self._points, axis=0, keepdims=True)
        self._distance = np.full(len(images), np.inf)
        for centre in centres:
            self._move_away_from(centre)
        self._reference = measure_reference(self._sample_prints())
        self._typical = float(np.median(self._distance)) or 1.0

    def _sample_prints(self) -> list[ImageFingerprint]:
        """Return the fingerprints of some images, evenly spaced."""
        prints = []
        for index in np.unique(np.linspace(0, len(self._images) - 1, _SAMPLED).astype(int)):
            try:
                prints.append(fingerprint_image(self._candidates.read(self._images[index])))
            except DataError:  # changed since it was measured
                continue
        return prints

    def pick(self, count: int, criteria: Sequence[str]) -> Iterator[SelectedImage]:
        """Yield up to `count` images, the criteria by turns."""
        queues = {
            UNCERTAIN: self._ranking(lambda one: one.uncertainty, MIN_UNCERTAINTY),
            DISAGREE: self._ranking(lambda one: one.disagreement, MIN_DISAGREEMENT),
            UNLIKE: self._farthest(),
        }
        open_criteria = list(criteria)
        picked = 0
        while picked < count and open_criteria:
            for criterion in tuple(open_criteria):
                index = next((each for each in queues[criterion] if self._take(each)), None)
                if index is None:
                    open_criteria.remove(criterion)
                    continue
                yield self._describe(index, criterion)
                self._move_away_from(self._points[index])
                picked += 1
                if picked == count:
                    break

    def _ranking(self, value: Callable[[ImageMeasurement], float], least: float) -> Iterator[int]:
        values = np.array([value(one) for one in self._measured])
        for index in np.argsort(-values, kind="stable").tolist():
            if values[index] < least:
                return
            if self._free[index]:
                yield index

    def _farthest(self) -> Iterator[int]:
        while self._free.any():
            yield int(np.argmax(np.where(self._free, self._distance, -1.0)))

    def _take(self, index: int) -> bool:
        """Take an image if nothing that is selected looks like it."""
        self._free[index] = False
        try:
            fingerprint = fingerprint_image(self._candidates.read(self._images[index]))
        except DataError:  # changed since it was measured
            return False
        if any(are_duplicates(other, fingerprint, self._reference) for other in self._prints):
            self.duplicates += 1
            return False
        self._prints.append(fingerprint)
        return True

    def _describe(self, index: int, criterion: str) -> SelectedImage:
        one = self._measured[index]
        if criterion == UNCERTAIN:
            value, reason = one.uncertainty, one.most_uncertain().words
        elif criterion == DISAGREE:
            value = one.disagreement
            decisions = {opinion.margin > 0 for opinion in one.opinions}
            reason = "one rejects, one passes" if len(decisions) > 1 else "scores differ"
        else:
            value = float(self._distance[index]) / self._typical
            reason = f"{value:.1f} times as far as a typical image"
        words = tuple(opinion.words for opinion in one.opinions)
        return SelectedImage(self._images[index], criterion, reason, round(value, 4), words)

    def _move_away_from(self, centre: NDArray[np.float32]) -> None:
        distances = np.sqrt(((self._points - centre) ** 2).sum(axis=1))
        self._distance = np.minimum(self._distance, distances)
