"""Random scores with labels."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Scores and whether each is of a defective image."""


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Few distinct scores, so that ties are common; good and defective images."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40))
    scores = np.array([value / 8 for value, _bad in pairs])
    bad = np.array([bad for _value, bad in pairs])
    assume(bad.any() and not bad.all())
    return scores, bad
