"""Selects the images of an archive that are most worth labelling. Needs no training library."""

from edgeinspect.learning.select.candidates import CandidateImage, CandidateSet, open_candidates
from edgeinspect.learning.select.reasons import ImageMeasurement, ModelOpinion
from edgeinspect.learning.select.select_images import (
    CRITERIA,
    SelectedImage,
    Selection,
    select_images,
)
from edgeinspect.learning.select.sheet import write_selection_sheet
from edgeinspect.learning.select.write_selection import claim_selection, write_selection

__all__ = [
    # the images
    "CandidateImage",
    "CandidateSet",
    "open_candidates",
    # the selection
    "CRITERIA",
    "ImageMeasurement",
    "ModelOpinion",
    "SelectedImage",
    "Selection",
    "select_images",
    # what is written
    "claim_selection",
    "write_selection",
    "write_selection_sheet",
]
